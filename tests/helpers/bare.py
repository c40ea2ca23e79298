"""For tests in processes of their own: the core's packages alone, no network, no other programs, no cache."""

from __future__ import annotations

import sys
import tomllib
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]
EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen", "os.system")


def core_modules(*more: str) -> set[str]:
    """Top-level modules of what `pip install` brings without extras, and of what that needs.

    Args:
        more: packages that are installed beside it.
    """
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    left = [
        *project["tool"]["retinaface-tf"]["dependencies"],
        *more,
        *("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    ]
    seen, modules = set(), set()
    while left:
        needed = Requirement(left.pop())
        if needed.name in seen or (needed.marker and not needed.marker.evaluate({"extra": ""})):
            continue
        seen.add(needed.name)
        try:
            found = distribution(needed.name)
        except PackageNotFoundError:  # another of the packages that OpenCV comes in
            continue
        left += found.requires or []
        modules |= {file.parts[0].partition(".")[0] for file in found.files or []}
    return modules


class _Core(PathFinder):
    """An import finder for which only some modules are installed."""

    known = core_modules() | set(sys.stdlib_module_names) | {"retinaface_tf", "tests"}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in cls.known or top.startswith("_sysconfigdata"):
            return super().find_spec(name, path, target)
        return None


def forbid(onnx_for_litert: bool = False) -> None:
    """From here on only what a bare installation has.

    Args:
        onnx_for_litert: onnxruntime is installed, and no LiteRT.
    """
    if onnx_for_litert:
        _Core.known = (_Core.known | core_modules("onnxruntime")) - {"ai_edge_litert"}

    def refuse(event, arguments):
        if event in EVENTS:
            raise RuntimeError(f"{event} {arguments}")

    sys.meta_path[:] = [_Core if finder is PathFinder else finder for finder in sys.meta_path]
    sys.addaudithook(refuse)


def packaged_presets() -> list[str]:
    """Presets whose weights are the package's own."""
    from retinaface_tf import presets
    from retinaface_tf.sources.packaged import Packaged

    return [
        name
        for name in presets.list_presets()
        if isinstance(presets.get_preset(name).source, Packaged)
    ]
