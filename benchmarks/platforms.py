"""Where the package can be installed: each extra on each platform and Python, from wheels alone.

    pip install uv
    python benchmarks/platforms.py [--only core train ...]

uv resolves with the markers of the platform that is asked about; pip, which reads markers of the machine it runs
on, then finds the core's wheels by `pip install --dry-run --platform`. What has no wheel is named with uv's reason.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LINUX = tuple(f"manylinux_2_{minor}" for minor in range(5, 29))
# uv's name of a platform, and pip's tags of it.
PLATFORMS = {
    "Linux x86-64": ("x86_64-manylinux_2_28", [f"{tag}_x86_64" for tag in LINUX]),
    "Linux aarch64": ("aarch64-manylinux_2_28", [f"{tag}_aarch64" for tag in LINUX]),
    "macOS arm64": ("aarch64-apple-darwin", ["macosx_14_0_arm64"]),
    "macOS x86-64": ("x86_64-apple-darwin", ["macosx_14_0_x86_64"]),
    "Windows AMD64": ("x86_64-pc-windows-msvc", ["win_amd64"]),
}


def main() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    extras = [
        "core",
        *(name for name in project["project"]["optional-dependencies"] if name != "test"),
    ]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=extras, default=extras)
    chosen = parser.parse_args().only
    print("| |", " | ".join(PLATFORMS), "|\n|---|" + "---|" * len(PLATFORMS))
    reasons = {}
    with tempfile.TemporaryDirectory() as folder:
        run("uv", "build", "--quiet", "--wheel", "--out-dir", folder, str(REPOSITORY), check=True)
        (wheel,) = Path(folder).glob("*.whl")
        for extra in chosen:
            row = []
            for platform, (target, tags) in PLATFORMS.items():
                found = []
                for python in PYTHONS:
                    pins, reason = resolve(wheel, extra, target, python)
                    if pins and extra == "core":
                        reason = pip_finds_no(pins, tags, python, Path(folder))
                    if reason:
                        reasons.setdefault(reason, []).append(f"{extra} {platform} {python}")
                    else:
                        found.append(python)
                row.append(", ".join(found) or "none")
            print(f"| {extra} |", " | ".join(row), "|", flush=True)
    for reason, where in reasons.items():
        print(f"\n{reason}\n    {'; '.join(where)}")


def resolve(wheel: Path, extra: str, target: str, python: str) -> tuple[list[str], str | None]:
    """Pinned requirements of everything that is installed; or none, and why."""
    needed = wheel.parent / "needed.txt"
    needed.write_text(f"retinaface-tf[{'' if extra == 'core' else extra}] @ {wheel.as_uri()}\n")
    done = run(
        *("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
        *("--no-python-downloads", "--prerelease", "disallow"),
        *("--only-binary", ":all:", "--python-platform", target, "--python-version", python),
        str(needed),
    )
    if done.returncode:
        text = re.sub(r"\{.*?\}", "", done.stderr)  # markers
        lacking = re.findall(r"([\w-]+)[<>=,.\w]* has no wheels with a matching (\w+)", text)
        names = sorted({f"{name}: no wheel for this {kind}" for name, kind in lacking})
        return [], "; ".join(names) or done.stderr.strip()
    return [line for line in done.stdout.splitlines() if "@" not in line], None


def pip_finds_no(pins: list[str], tags: list[str], python: str, folder: Path) -> str | None:
    """pip's error where it lacks a wheel of these, else None."""
    done = run(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps"),
        # pip compares what packages require with the Python it runs on; uv has compared with the right one.
        *(
            "--ignore-requires-python",
            "--ignore-installed",
            "--only-binary=:all:",
            "--target",
            str(folder / "nothing"),
        ),
        *("--python-version", python, *(part for tag in tags for part in ("--platform", tag))),
        *pins,
    )
    return f"pip: {done.stderr.strip()}" if done.returncode else None


def run(*command: str, check: bool = False) -> subprocess.CompletedProcess:
    command = (sys.executable, "-m", *command) if command[0] == "uv" else command
    return subprocess.run(command, capture_output=True, text=True, check=check)


if __name__ == "__main__":
    main()
