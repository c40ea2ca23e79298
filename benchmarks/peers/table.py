"""The report in words and tables, from the figures of a run."""

from __future__ import annotations

from collections.abc import Callable

BEGIN, END = "<!-- figures: written by benchmarks/peers.py -->", "<!-- end of figures -->"

# Who is fast without finding much is not all there is to say: AP on FDDB, and faces of a hundred.
SHARP, MANY = 0.98, 90


def percent(value: float | None) -> str:
    """A share as a percentage, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def milliseconds(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "–"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown; the first column to the left, the others to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figures(run: dict) -> str:
    """All tables of a run.

    Args:
        run: {"rows": [of each peer: key, name, ours, accuracy, times, cold, bytes, versions, error],
            "sets", "machine", "date", "command", "subset"} as `peers.json` has it.
    """
    rows, gone = [], []
    for row in run["rows"]:
        (gone if "error" in row else rows).append(row)
    parts = [
        f"Run of {run['date']}: {run['machine']}.",
        f"```bash\n{run['command']}\n```",
        "### Who finds what",
        accuracy_table(run, rows),
        "### How fast, how large",
        cost_table(run, rows),
        "### Who is ahead",
        "\n".join(f"- {line}" for line in verdicts(run)),
        *(["### How their boxes lie on FDDB's", convention_table(rows)] * ("fddb" in run["sets"])),
        "### Versions and weights",
        versions_table(rows),
    ]
    if gone:
        lines = [f"- {row['name']} (weights {row['weights']}): {row['error']}" for row in gone]
        parts += ["### Not measured", "\n".join(lines)]
    return "\n\n".join(parts)


def accuracy_table(run: dict, rows: list[dict]) -> str:
    """AP and landmark errors."""
    sets = run["sets"]
    faces = {key: f"{value['title']} ({value['images']})" for key, value in sets.items()}
    head, columns = ["AP at IoU 0.5, %"], []
    if "fddb" in sets:
        head += [
            f"{faces['fddb']}, as they are",
            f"{run['subset']} of these",
            "the same at 640x640",
        ]
        columns = [("fddb", "original", "ap"), ("fddb", "original", "subset")]
        columns.append(("fddb", "letterbox", "subset"))
    for key in ("wider", "wider416"):
        for policy, word in (
            (("original", "as they are"), ("letterbox", "640x640")) if key in sets else ()
        ):
            head.append(f"{faces[key]}, {word}")
            columns.append((key, policy, "ap"))
    body = []
    for row in rows:
        cells = [percent(_figure(row, *column)) for column in columns]
        body.append([row["name"], *cells])
    tables = [table(head, body)]
    with_points = [key for key in ("crops", "dlib") if key in sets]
    if with_points:
        head = ["five points"]
        for key in with_points:
            head += [f"{faces[key]}: found", "NME %", "failures %"]
        rows_with = [
            row for row in rows if _figure(row, with_points[0], "original", "nme") is not None
        ]
        tables.append(
            table(
                head,
                [
                    [
                        row["name"],
                        *(c for key in with_points for c in _points(row, key, "original")),
                    ]
                    for row in rows_with
                ],
            )
        )
    if "animals" in sets:
        tables.append(false_alarm_table(run, rows))
    return "\n\n".join(tables)


def false_alarm_table(run: dict, rows: list[dict]) -> str:
    """What each takes for a face where there is none, at its own threshold."""
    head = [
        f"false alarms, {run['sets']['animals']['images']} photos of animals",
        "photos",
        "boxes",
    ]
    body = []
    for row in rows:
        found = _figure(row, "animals", "original", "false")
        if found is not None:
            photos = _photos_with_false_alarms(row)
            body.append([row["name"], str(photos), str(sum(found))])
    return table(head, body)


def _points(row: dict, key: str, policy: str) -> list[str]:
    entry = row["accuracy"][key][policy]
    if "nme" not in entry:
        return ["–"] * 3
    nme = "–" if entry["nme"] is None else f"{100 * entry['nme']:.2f}"
    return [f"{entry['found']} of {entry['faces']}", nme, percent(entry["failures"])]


def _figure(row: dict, key: str, policy: str, name: str):
    return row["accuracy"].get(key, {}).get(policy, {}).get(name)


def _time(row: dict, scene: str, name: str):
    return ((row.get("times") or {}).get(scene) or {}).get(name)


def cost_table(run: dict, rows: list[dict]) -> str:
    """Times, memory, install size."""
    head = [
        "one thread, processor time",
        "VGA, one face: ms",
        "p90",
        "VGA, 100 faces: ms",
        "p90",
        "found",
        "FDDB photos a second",
        "start to first answer, s",
        "peak memory, MiB",
        "install, MiB",
    ]
    body = []
    for row in rows:
        memory, size = row.get("peak_bytes"), row.get("bytes")
        cold = row.get("cold_s")
        faces = _time(row, "100 faces", "faces")
        rate = _time(row, "photos", "images_per_s")
        body.append(
            [
                row["name"],
                milliseconds(_time(row, "one face", "median_ms")),
                milliseconds(_time(row, "one face", "p90_ms")),
                milliseconds(_time(row, "100 faces", "median_ms")),
                milliseconds(_time(row, "100 faces", "p90_ms")),
                "–" if faces is None else str(faces),
                "–" if rate is None else f"{rate:.1f}" if rate >= 1 else f"{rate:.2f}",
                "–" if cold is None else f"{cold:.2f}",
                "–" if not memory else f"{memory / 2**20:,.0f}",
                "–" if not size else f"{size / 2**20:,.0f}",
            ]
        )
    return table(head, body)


def _photos_with_false_alarms(row: dict) -> int | None:
    found = _figure(row, "animals", "original", "false")
    return None if found is None else sum(map(bool, found))


def convention_table(rows: list[dict]) -> str:
    """What FDDB's tall boxes do to each, on the images that everybody searched."""
    head = [
        "medians over faces found",
        "IoU",
        "width / annotated",
        "height / annotated",
        "upper edge lower by, % of height",
        "AP at IoU 0.5",
        "at IoU 0.3",
    ]
    body = []
    for row in rows:
        fit = _figure(row, "fddb", "original", "fit")
        if not fit or not fit["faces"]:
            continue
        ap = _figure(row, "fddb", "original", "subset")
        body.append(
            [
                row["name"],
                f"{fit['iou']:.2f}",
                f"{fit['width']:.2f}",
                f"{fit['height']:.2f}",
                f"{100 * fit['above']:.0f}",
                percent(ap),
                percent(_figure(row, "fddb", "original", "ap30")),
            ]
        )
    return table(head, body)


def versions_table(rows: list[dict]) -> str:
    """What was installed, and where the weights come from."""
    body = [
        [
            row["name"],
            ", ".join(f"{name} {number}" for name, number in row["versions"].items()),
            row["weights"],
        ]
        for row in rows
    ]
    return table(["", "versions", "weights"], body).replace("--:", "---")


def verdicts(run: dict) -> list[str]:
    """For every figure the best of ours against the best of the others, a sentence each."""
    trained = [row for row in run["rows"] if "error" not in row]
    lines = []

    def compare(what: str, value: Callable, show: Callable, least: bool = False, among=trained):
        sides = []
        for ours in (True, False):
            known = [(value(row), row["name"]) for row in among if row["ours"] == ours]
            known = [pair for pair in known if pair[0] is not None]
            if not known:
                return
            sides.append((min if least else max)(known, key=lambda pair: pair[0]))
        (mine, my_name), (theirs, their_name) = sides
        mine_text, theirs_text = (
            f"{name} {show(v)}" for v, name in ((mine, my_name), (theirs, their_name))
        )
        if show(mine) == show(theirs):
            lines.append(f"{what}: level, {mine_text} and {theirs_text}.")
        elif (mine < theirs) == least:
            lines.append(f"{what}: {mine_text}; the best peer is {theirs_text}.")
        else:
            lines.append(f"{what}: **a peer wins**, {theirs_text}; ours at best: {mine_text}.")

    for key, entry in run["sets"].items():
        if key == "animals":
            compare(
                f"False alarms, photos of {entry['images']} of animals",
                _photos_with_false_alarms,
                str,
                least=True,
            )
            continue
        if key in ("crops", "dlib"):
            compare(
                f"Five points, {entry['title']}, NME",
                lambda row, key=key: _figure(row, key, "original", "nme"),
                lambda v: f"{100 * v:.2f} %",
                least=True,
            )
            compare(
                f"Five points, {entry['title']}, failures",
                lambda row, key=key: _figure(row, key, "original", "failures"),
                lambda v: f"{percent(v)} %",
                least=True,
            )
            continue
        for policy, word in (("original", "as they are"), ("letterbox", "640x640")):
            part = key == "fddb" and policy == "letterbox"
            name = "subset" if part else "ap"
            only = f" ({run['subset']} photos)" if part else ""
            compare(
                f"AP, {entry['title']} {word}{only}",
                lambda row, key=key, policy=policy, name=name: _figure(row, key, policy, name),
                lambda v: f"{percent(v)} %",
            )
    sharp = [row for row in trained if (_figure(row, "fddb", "original", "subset") or 0) >= SHARP]
    finders = [row for row in trained if (_time(row, "100 faces", "faces") or 0) >= MANY]
    for scene, among, which in (
        ("one face", trained, ""),
        ("one face", sharp, f", of those with an AP of {percent(SHARP)} % or more on FDDB"),
        ("100 faces", trained, ""),
        ("100 faces", finders, f", of those that find {MANY} or more"),
    ):
        compare(
            f"Time, VGA with {scene}{which}",
            lambda row, scene=scene: _time(row, scene, "median_ms"),
            lambda v: f"{milliseconds(v)} ms",
            least=True,
            among=among,
        )
    compare(
        "Photos a second",
        lambda row: _time(row, "photos", "images_per_s"),
        lambda v: f"{v:.0f}",
    )
    compare("Cold start", lambda row: row.get("cold_s"), lambda v: f"{v:.2f} s", least=True)
    mebibytes = lambda v: f"{v / 2**20:,.0f} MiB"  # noqa: E731
    compare("Peak memory", lambda row: row.get("peak_bytes"), mebibytes, least=True)
    compare("Install size", lambda row: row.get("bytes"), mebibytes, least=True)
    return lines


def put_between_marks(page: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """A page with what stands between the marks replaced; the marks are added where there are none."""
    block = f"{begin}\n{text}\n{end}"
    if begin not in page or end not in page.split(begin, 1)[1]:
        return f"{page.rstrip()}\n\n{block}\n"
    before, rest = page.split(begin, 1)
    return before + block + rest.split(end, 1)[1]
