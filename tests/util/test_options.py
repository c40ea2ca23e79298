"""Options from plain values: what is refused, and in which words."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from retinaface_tf.errors import ConfigError
from retinaface_tf.util.options import (
    apply_overrides,
    check_choice,
    check_range,
    from_dict,
    read_options,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    sides: tuple[float, float] = (1.0, 2.0)
    names: tuple[str, ...] = ()

    def __post_init__(self):
        check_range(self, "inner", "sides", 0, 9)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    parts: tuple[Inner, ...] = ()
    count: int = 1
    rate: float | None = None
    exact: bool = False
    kind: str = "a"

    def __post_init__(self):
        check_choice(self, "", "kind", ("a", "b"))


def test_values_become_what_is_declared():
    values = {
        "inner": {"sides": [1, 3], "names": ["x"]},
        "parts": [{}, {"sides": [4, 5]}],
        "rate": 2,
    }
    assert from_dict(Outer, values) == Outer(
        inner=Inner(sides=(1.0, 3.0), names=("x",)),
        parts=(Inner(), Inner(sides=(4.0, 5.0))),
        rate=2.0,
    )
    assert from_dict(Outer, {"rate": None, "inner": Inner(names=("y",))}).inner.names == ("y",)
    assert isinstance(from_dict(Outer, {"rate": 2}).rate, float)


@pytest.mark.parametrize(
    "values, sentence",
    [
        (
            {"cuont": 1},
            "Unknown option 'o.cuont'; there are inner, parts, count, rate, exact, kind.",
        ),
        ({"inner": {"side": 1}}, "Unknown option 'o.inner.side'; there are sides, names."),
        ({"count": 1.5}, "o.count=1.5 must be a whole number."),
        ({"count": True}, "o.count=True must be a whole number."),
        ({"rate": "fast"}, "o.rate='fast' must be a number or none."),
        ({"rate": float("nan")}, "o.rate=nan must be a number or none."),
        ({"exact": 1}, "o.exact=1 must be true or false."),
        ({"kind": None}, "o.kind=None must be text."),
        ({"inner": 3}, "o.inner=3 must be a table of options."),
        ({"inner": {"sides": [1]}}, "o.inner.sides=[1] must be a list of 2 numbers."),
        ({"inner": {"sides": [1, "b"]}}, "o.inner.sides='b' must be a number."),
        ({"inner": {"names": "x"}}, "o.inner.names='x' must be a list of texts."),
        ({"inner": {"names": 3}}, "o.inner.names=3 must be a list of texts."),
        ({"parts": {}}, "o.parts={} must be a list of tables."),
        ({"inner": {"sides": [1, 10]}}, "inner.sides=(1.0, 10.0) must be within 0..9."),
        ({"kind": "c"}, "kind='c' must be one of a, b."),
    ],
)
def test_what_cannot_be_is_said_in_plain_words(values, sentence):
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, values, "o.")
    assert str(caught.value) == sentence


def test_overrides_go_to_their_place_in_a_copy():
    values = {"inner": {"names": ["x"]}, "kind": "a"}
    found = apply_overrides(values, ["inner.sides=[3, 4]", "kind = b", "rate=none", "a.b.c=1"])
    assert found == {
        "inner": {"names": ["x"], "sides": [3, 4]},
        "kind": "b",
        "rate": None,
        "a": {"b": {"c": 1}},
    }
    assert values == {"inner": {"names": ["x"]}, "kind": "a"}
    with pytest.raises(ConfigError, match="write key=value"):
        apply_overrides({}, ["rate"])


@pytest.mark.parametrize("name, text", [("a.toml", "count ="), ("a.json", "{"), ("b.json", "[1]")])
def test_a_file_that_cannot_be_read_is_named(name, text, tmp_path):
    path = tmp_path / name
    with pytest.raises(ConfigError, match=f"{name}: no such file"):
        read_options(path)
    path.write_text(text)
    with pytest.raises(ConfigError, match=name):
        read_options(path)
