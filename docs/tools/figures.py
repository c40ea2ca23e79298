"""Figures in the pages, made of what the benchmarks wrote to docs/figures: none is copied by hand.

    python docs/tools/figures.py    # writes them into the pages, between their marks

Tables stand between `<!-- figures: ... -->` and `<!-- end of figures -->`. A single figure that several places have is
`<!-- figure: NAME -->0.761<!-- -->`, never at the start of a line; `quotes` has the names. One whose benchmark writes no
file is in docs/figures/quoted.json, and its command on the page that measured it.

A test holds the pages equal to what this writes.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from pages import written_pages  # noqa: E402

from benchmarks import engines  # noqa: E402
from benchmarks.own import table as own  # noqa: E402
from benchmarks.peers import table as peers  # noqa: E402
from retinaface_tf import get_preset  # noqa: E402
from retinaface_tf.util.files import write_whole  # noqa: E402

# What README says each is for.
_TAKE_FOR = {
    "lite": "most photos, phones, browsers",
    "mobilenet0.25": "more exact landmarks on large faces",
    "mobilenet0.25-mesh": "1,103 vertices and a head pose for each face",
    "mobilenetv2": "small faces, where 50 ms are no problem",
    "resnet34": "small faces on a server",
    "resnet50": "the papers' backbone, on a server",
}
_ROW_OF_OWN = {"lite": "float32", "mobilenet0.25": "public", "mobilenet0.25-mesh": "public"}


def read(name: str) -> dict:
    """What a benchmark wrote."""
    return json.loads((REPOSITORY / "docs" / "figures" / f"{name}.json").read_text())


def presets_table() -> str:
    """README's: which network to take."""
    seen = {
        row["key"]: row["ap"]["wider"]["own"]
        for row in read("own-weights")["rows"]
        if "own" in row["ap"]["wider"]
    }
    rows = []
    for name, what in _TAKE_FOR.items():
        runs = [row for row in read("engines")["rows"] if name in row["preset"].split(", ")]
        files = [next(r for r in runs if r["engine"] == f"LiteRT {p}") for p in ("float32", "int8")]
        preset = get_preset(name)
        rows.append(
            [
                f"`{name}`" + ", the default" * (name == "lite"),
                what,
                f"{seen[_ROW_OF_OWN[name]]:.3f}" if name in _ROW_OF_OWN else "",
                preset.hard_ap.partition(" / ")[0],
                " / ".join(_three_digits(row["ms"]) for row in files),
                " / ".join(_three_digits(row["file_mb"]) for row in files),
                preset.source.licence.partition(" (")[0],
            ]
        )
    head = ["preset", "take it for", "AP, 16 photos", "AP hard, published"]
    head += ["ms, float32 / int8", "MB, float32 / int8", "weights' licence"]
    return peers.table(head, rows).replace("--- | --:", "--- | ---", 1)  # both are words


def zoom_table() -> str:
    """Speed's: single sizes, zoom, views and other networks; int8 beside float32 where there is such a row."""
    shown = {
        "512": ("lite {}", "512"),
        "640": ("lite {}", "640"),
        "1088": ("lite {}", "1088"),
        "1600": ("lite {}", "1600"),
        "**512, zoom, at most 8 tiles**": ("lite {}, 512 + zoom", "+8"),
        "**640, zoom, 8**": ("lite {}, 640 + zoom", "+8"),
        "**800, zoom, 32**": ("lite {}, 800 + zoom", "+32"),
        "640 and 1088, mirrored": ("lite {}, 2 sizes, mirrored", "4"),
        "public `mobilenet0.25`, 640": ("public mobilenet0.25", "640"),
        "public `mobilenet0.25`, 640, zoom, 32": ("public mobilenet0.25", "640+32"),
        "YuNet in OpenCV, 640": ("YuNet (OpenCV)", "640"),
        "YuNet in OpenCV, 1088": ("YuNet (OpenCV)", "1088"),
    }
    run = read("second-look")
    found = {(row["line"], row["point"]): row for row in run["rows"]}
    rows = []
    for name, (line, point) in shown.items():
        cells = [name]
        for precision in dict.fromkeys((line.format("float32"), line.format("int8"))):
            row = found.get((precision, point))
            cells += [
                f"{row[k]['ap']:.3f}, {row[k]['ms']:.0f} ms" if row else "" for k in run["photos"]
            ]
        rows.append([*cells, "", ""][:5])
    photos = run["photos"]
    head = ["longer side", f"{photos['wider']} WIDER val: AP, time"]
    head += [f"{photos['wider416']} at 416x416: AP, time", "the first, int8", "the second, int8"]
    return peers.table(head, rows)


def zoom_by_default_table() -> str:
    """Speed's: AP and time at the default size without and with zoom."""
    found = {(row["precision"], row["photos"]): row for row in read("zoom-by-default")}
    rows = []
    for (precision, name), row in found.items():
        if precision == "float32" and "ap" in row:
            cells = [f"{row['count']} {name}"]
            for one in (row, found["int8", name]):
                cells += [f"{value:.4f}" for value in one["ap"]]
                cells.append(" → ".join(f"{value:.1f}" for value in one["ms"]))
            rows.append(cells)
    head = ["photos", "AP float32, off", "`auto`", "ms", "AP int8, off", "`auto`", "ms"]
    return peers.table(head, rows)


def huge_photos_table() -> str:
    """Speed's: crowds in large photos, by setting."""
    found = read("huge-photos")
    settings = list(dict.fromkeys(row["setting"] for row in found))
    rows: dict[str, list[str]] = {}
    for row in found:
        name = f"{row['megapixels']} megapixels, {row['labelled']} faces, {row['precision']}"
        cell = f"{row['hit']} hit, {row['seconds']:.2f} s, {row['mb']} MB"
        rows.setdefault(name, [name]).append(cell)
    head = ["photo", *(f"`{s}`" if s.startswith("--") else s for s in settings)]
    return peers.table(head, list(rows.values()))


def card_table() -> str:
    """Model card's: `lite` beside the public weights."""
    rows = {row["key"]: row for row in read("own-weights")["rows"]}
    keys, q = ("public", "float32", "int8"), quotes()

    def cells(what: str, *names: str) -> list[str]:
        return [what, *(" / ".join(q[f"own {key} {name}"] for name in names) for key in keys)]

    def times(what: str, name: str) -> list[str]:
        least = rows["public"][name]
        return [what, *(f"{rows[k][name]:.1f} ({rows[k][name] / least:.2f})" for k in keys)]

    return peers.table(
        ["", "public `mobilenet0.25`", "`lite` float32", "`lite` int8"],
        [
            cells("AP, 16 WIDER FACE val, at 640 / own size", "wider 640", "wider own"),
            cells("AP, 100 WIDER FACE val at 416, at 640", "wider416 640"),
            cells("AP, 846 FDDB, at 640 / own size", "fddb 640", "fddb own"),
            cells("five points, 80-pixel crops / dlib's photos, NME %", "crops nme", "dlib nme"),
            times("network, ms (ratio)", "network_ms"),
            times("pixels in, faces out, ms (ratio)", "end_to_end_ms"),
        ],
    )


def reader() -> str:
    """Formulas': the code of `tflite/read_faces.py`."""
    text = (REPOSITORY / "tflite" / "read_faces.py").read_text(encoding="utf-8")
    return f"```python\n{text[text.index('import ') :]}```"


@functools.cache
def quotes() -> dict[str, str]:
    """Single figures by name, as the pages print them."""
    found: dict[str, str] = read("quoted")
    rows = read("own-weights")["rows"]
    (slowest,) = (row["network_ms"] for row in rows if row["key"] == "public")
    for row in rows:
        key = f"own {row['key']}"
        if row["network_ms"]:
            found[f"{key} time"] = f"{row['network_ms'] / slowest:.2f}"
        for photos, sizes in row["ap"].items():
            found |= {f"{key} {photos} {size}": f"{ap:.3f}" for size, ap in sizes.items()}
        for photos, entry in row["points"].items():
            found[f"{key} {photos} nme"] = f"{100 * entry['nme']:.2f}"
    for row in read("engines")["rows"]:
        for name in row["preset"].split(", "):
            found[f"{name} {row['engine']} ms"] = _three_digits(row["ms"])
            found[f"{name} {row['engine']} mb"] = _three_digits(row["file_mb"])
    for row in read("peers")["rows"]:
        key, accuracy = f"peers {row['key']}", row.get("accuracy", {})
        for photos, ways in accuracy.items():
            found |= {
                f"{key} {photos} {way}": f"{100 * seen['ap']:.1f}"
                for way, seen in ways.items()
                if seen.get("ap") is not None
            }
        if "animals" in accuracy:
            alarms = sum(map(bool, accuracy["animals"]["original"]["false"]))
            found[f"{key} alarms"] = str(alarms)
        for scene, seen in row.get("times", {}).items():
            found[f"{key} ms {scene}"] = f"{seen['median_ms']:.1f}"
        if row.get("bytes"):
            found[f"{key} install"] = f"{row['bytes'] / 2**20:,.0f}"
    for row in read("zoom-by-default"):
        key = f"zoom {row['precision']} {row['photos']}"
        found |= {f"{key} {s} ms": f"{ms:.1f}" for s, ms in zip(("off", "auto"), row["ms"])}
        for state, ap in zip(("off", "auto"), row.get("ap", ())):
            found[f"{key} {state}"] = f"{ap:.3f}"
    return found


def attacks_table() -> str:
    """Serving's: a good client's latencies and the server's memory, by attack."""
    rows = []
    for row in read("attacks"):
        quiet, during, (before, most, after) = row["quiet_ms"], row["during_ms"], row["mb"]
        cells = [f"{p50:.0f}, {p99:.0f} ms" for p50, p99 in (quiet, during)]
        cells.append(", ".join(f"{loud / calm:.1f}" for calm, loud in zip(quiet, during)))
        cells.append(f"{row['failed']} of {row['asked']}")
        cells += [f"{mb:.0f}" for mb in (before, most, after)]
        rows.append([row["attack"], *cells, f"{after / before:.2f}"])
    head = ["attack", "p50, p99 quiet", "under attack", "times", "failed"]
    return peers.table([*head, "MB before", "most", "after", "times"], rows)


def cpp_table() -> str:
    """Serving's: greatest differences between C++ and Python, by preset."""
    rows = []
    for row in read("cpp"):
        worst = {name: f"{value:.0e}" for name, value in row["worst"].items()}
        cells = [str(row["faces"]), *(worst.pop(n) for n in ("scores", "boxes", "landmarks"))]
        more = ", ".join(f"{name} {value}" for name, value in worst.items())
        rows.append([", ".join(f"`{name}`" for name in row["presets"]), *cells, more])
    return peers.table(["preset", "faces", "scores", "boxes, px", "landmarks, px", "more"], rows)


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 20 else f"{value:.0f}"


# By page: the first mark of each table, and what makes it.
TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"<!-- figures: presets -->": presets_table},
    "docs/model-zoo.md": {
        "<!-- figures: engines -->": lambda: engines.markdown(read("engines")).strip()
    },
    "docs/speed.md": {
        "<!-- figures: second-look -->": zoom_table,
        "<!-- figures: zoom-by-default -->": zoom_by_default_table,
        "<!-- figures: huge-photos -->": huge_photos_table,
    },
    "docs/serving.md": {
        "<!-- figures: attacks -->": attacks_table,
        "<!-- figures: cpp -->": cpp_table,
    },
    "docs/peers.md": {peers.BEGIN: lambda: peers.figures(read("peers"))},
    "docs/own-weights.md": {own.BEGIN: lambda: own.figures(read("own-weights"))},
    "docs/model-card.md": {"<!-- figures: card -->": card_table},
    "docs/formulas.md": {"<!-- figures: reader -->": reader},
}
_QUOTE = re.compile(r"(<!-- figure: ([^>]+) -->)[^<]*(<!-- -->)")
PAGES = ["README.md", *written_pages(REPOSITORY)]


def with_figures(page: str) -> str:
    """A page's text with its tables and single figures made anew."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for begin, make in TABLES.get(page, {}).items():
        text = peers.put_between_marks(text, make(), begin)
    return _QUOTE.sub(lambda mark: f"{mark[1]}{quotes()[mark[2]]}{mark[3]}", text)


if __name__ == "__main__":
    for page in PAGES:
        write_whole(REPOSITORY / page, with_figures(page))
