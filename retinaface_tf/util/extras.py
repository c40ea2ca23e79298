"""Packages that only some work needs: pip installs them as extras, and work that lacks one says which.

`pip install retinaface-tf` brings what finding faces needs. Everything else is an extra of
`pyproject.toml`, asked for here before the work begins.
"""

import importlib.util

from retinaface_tf.errors import MissingPackage

# What a network in Keras needs.
KERAS = ("tensorflow", "keras", "h5py")
_EVALUATE = ("scipy", "matplotlib", "jinja2")
# Modules by the extra that brings them; of a module in several, the first is named.
EXTRAS = {
    "train": (*KERAS, "tensorboard", *_EVALUATE),
    "export": (*KERAS, "onnx", "tf2onnx"),
    "evaluate": _EVALUATE,
    "onnx": ("onnxruntime",),
    "openvino": ("openvino",),
    "heif": ("pillow_heif",),
    "video": ("av",),
    "demo": ("skimage",),
    "client": ("grpc", "google.protobuf"),
    "serving": (
        *("tensorflow", "aiohttp", "grpc", "grpc_health", "grpc_reflection"),
        *("prometheus_client", "google.protobuf"),
    ),
    "bulk": ("pyarrow",),
    "ray": ("ray", "pyarrow"),
}


def remedy(extra: str) -> str:
    """The command that installs an extra, as every shell takes it."""
    return f'pip install "retinaface-tf[{extra}]"'


def require(extra: str, *modules: str, for_: str) -> None:
    """Refuses to begin what an extra is missing for; imports nothing.

    Args:
        extra: of `EXTRAS`.
        modules: those that are needed, by the names they are imported by; without, all of the extra.
        for_: what needs them, as the beginning of a sentence.

    Raises:
        MissingPackage: one is not installed; the message has the command that installs it.
    """
    missing = [name for name in modules or EXTRAS[extra] if not is_installed(name)]
    if missing:
        raise MissingPackage(_sentence(for_, missing, extra))


def require_package(module: str, *, for_: str) -> None:
    """Refuses to begin what a package in no extra is missing for: one that its users have.

    Raises:
        MissingPackage: it is not installed.
    """
    if not is_installed(module):
        raise MissingPackage(
            f"{for_} needs {module}, which is not installed: pip install {module}."
        )


def missing_extra(error: ImportError) -> MissingPackage | None:
    """The sentence for a failed import; None where no extra brings the module."""
    for extra, modules in EXTRAS.items():
        if error.name and any(error.name.split(".")[0] == name.split(".")[0] for name in modules):
            return MissingPackage(_sentence("This", [error.name], extra))
    return None


def is_installed(module: str) -> bool:
    """Whether a module could be imported; imports at most the package that it is in."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def _sentence(for_: str, missing: list[str], extra: str) -> str:
    *others, last = missing
    names = f"{', '.join(others)} and {last}" if others else last
    are = "are" if others else "is"
    return f"{for_} needs {names}, which {are} not installed: {remedy(extra)}."
