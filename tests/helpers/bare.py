"""For tests in processes of their own: no TensorFlow, no Keras, no network, no other programs, no cache."""

from __future__ import annotations

import sys
from pathlib import Path

FORBIDDEN = ("tensorflow", "keras", "h5py", "onnx", "onnxruntime", "jax", "tf2onnx")
EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.bind", "subprocess.Popen", "os.system")


class _Nowhere:
    """An import finder for which some modules are not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def forbid(folder: str | None = None, stem: str | None = None, preset: str | None = None) -> None:
    """From here on only what a bare installation has.

    Args:
        folder, stem, preset: packaged files of a stand-in, and the preset they become; None for the
            package's own.
    """

    def refuse(event, arguments):
        if event in EVENTS:
            raise RuntimeError(f"{event} {arguments}")

    sys.meta_path.insert(0, _Nowhere())
    sys.addaudithook(refuse)
    if folder is not None:
        add_preset(Path(folder), stem, preset)


def packaged_presets() -> list[str]:
    """Presets whose weights are the package's own."""
    from retinaface_tf import presets
    from retinaface_tf.sources.packaged import Packaged

    return [
        name
        for name in presets.list_presets()
        if isinstance(presets.get_preset(name).source, Packaged)
    ]


def add_preset(folder: Path, stem: str, preset: str) -> None:
    """Makes files in a folder a preset's."""
    from retinaface_tf import presets
    from retinaface_tf.sources import packaged

    source = packaged.Packaged(stem=stem, licence="MIT (a test)", folder=folder)
    presets._PRESETS[preset] = presets.Preset(
        name=preset, summary="a stand-in", config=presets.RetinaFaceConfig(), source=source
    )
