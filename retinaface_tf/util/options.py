"""Options as frozen dataclasses: read from TOML or JSON, changed by `key=value`, checked in plain words."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from retinaface_tf.errors import ConfigError
from retinaface_tf.util.bounds import parse_json, parse_toml
from retinaface_tf.util.text_lines import read_text

Options = TypeVar("Options")

# Keras and numpy take seeds of 32 bits.
MAX_SEED = 2**32 - 1
# Of a file of options.
_LARGEST = 1 << 20
# Dots in a key; what follows stays in its last name, which no option has.
_LEVELS = 8

# One of a kind, and several.
_WORDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
    types.NoneType: ("none", "none"),
}


def read_options(path: Path | str) -> dict[str, Any]:
    """The plain values of a `.toml` or `.json` file.

    Raises:
        ConfigError: the file cannot be read or parsed.
    """
    path = Path(path)
    text = read_text(path, limit=_LARGEST, error=ConfigError)
    try:
        values = parse_json(text) if path.suffix == ".json" else parse_toml(text)
    except ValueError as error:
        raise ConfigError(f"Configuration {path} cannot be parsed: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"Configuration {path} must be a table of options.")
    return values


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with each "dotted.key=value" put in its place.

    Values are TOML; text needs no quotes, and "none" is None.

    Raises:
        ConfigError: an override is not of that form.
    """
    values = json.loads(json.dumps(values))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"Override {override!r} is not understood: write key=value.")
        set_option(values, key.strip(), _parse(text.strip()))
    return values


def set_option(values: dict[str, Any], key: str, value: Any) -> None:
    """Puts a value at a "dotted.key", with new tables on the way where there are none."""
    *tables, last = key.split(".", _LEVELS)
    for name in tables:
        inner = values.get(name)
        values[name] = values = inner if isinstance(inner, dict) else {}
    values[last] = value


def _parse(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def from_dict(cls: type[Options], values: dict[str, Any], prefix: str = "") -> Options:
    """A dataclass of options from plain values; missing members have their defaults.

    Lists become tuples, tables the dataclasses that the members are declared as, whole numbers
    floats where a float is declared.

    Args:
        cls: a dataclass whose members are numbers, texts, bools, tuples of such, dataclasses, or any
            of these or None.
        values: by the members' names.
        prefix: of the names in messages, such as "loss.".

    Raises:
        ConfigError: a name is unknown, or a value has another type or is out of range.
    """
    hints = typing.get_type_hints(cls)
    refuse_unknown(cls, values, "option", prefix)
    return cls(**{name: _convert(hints[name], v, prefix + name) for name, v in values.items()})


def refuse_unknown(cls: type, names: Iterable[str], what: str, prefix: str = "") -> None:
    """Raises `ConfigError`, "Unknown `what` NAME", for the first name that is no field of a dataclass."""
    known = [field.name for field in dataclasses.fields(cls)]
    for name in names:
        if name not in known:
            raise ConfigError(f"Unknown {what} {prefix + name!r}; there are {', '.join(known)}.")


def _convert(hint, value, name: str):
    for kind in _kinds(hint):
        items = typing.get_args(kind)
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            return from_dict(kind, value, name + ".")
        if items:
            several = isinstance(value, list | tuple)
            if several and (items[-1] is Ellipsis or len(value) == len(items)):
                return tuple(_convert(items[0], item, name) for item in value)
        elif kind is float:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and math.isfinite(value):
                return float(value)
        elif isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
            return value
    shown = repr(value)
    shown = shown if len(shown) < 200 else f"{shown[:200]}..."
    raise ConfigError(f"{name}={shown} must be {_in_words(hint)}.")


def _kinds(hint) -> tuple:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _in_words(hint) -> str:
    words = []
    for kind in _kinds(hint):
        items = typing.get_args(kind)
        if items:
            count = "" if items[-1] is Ellipsis else f"{len(items)} "
            words.append(f"a list of {count}{_WORDS.get(items[0], ('', 'tables'))[1]}")
        else:
            words.append(_WORDS.get(kind, ("a table of options", ""))[0])
    return " or ".join(words)


def check_range(
    options, section: str, names: str, low: float = -math.inf, high: float = math.inf
) -> None:
    """Requires numbers, or every number of a tuple, to lie in `low`..`high`.

    Args:
        options: a dataclass.
        section: its name in messages, "" for none.
        names: of the members, separated by spaces; None passes.

    Raises:
        ConfigError: one is outside.
    """
    for name in names.split():
        value = getattr(options, name)
        numbers = value if isinstance(value, list | tuple) else (value,)
        if not all(low <= number <= high for number in numbers if number is not None):
            limits = f"at least {low:g}" if high == math.inf else f"within {low:g}..{high:g}"
            raise ConfigError(f"{_dotted(section, name)}={value} must be {limits}.")


def check_choice(options, section: str, name: str, choices: Sequence[str]) -> None:
    """Requires a text to be one of some.

    Raises:
        ConfigError: it is another.
    """
    value = getattr(options, name)
    if value not in choices:
        raise ConfigError(
            f"{_dotted(section, name)}={value!r} must be one of {', '.join(choices)}."
        )


def _dotted(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name
