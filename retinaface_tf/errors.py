"""The errors a user can meet; each message is one sentence naming the thing, the value and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from retinaface_tf.faces.faces import Faces


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class RetinaFaceError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(RetinaFaceError):
    """A configuration or an option has a value that cannot work."""


class MissingPackage(RetinaFaceError, ImportError):
    """What was asked for needs a package that is not installed."""


class ImageError(RetinaFaceError):
    """An image cannot be read or used."""


class DataError(RetinaFaceError):
    """Training data or its labels cannot be read or used."""


class TrainingDiverged(RetinaFaceError):
    """The loss is not a finite number any more."""


class WeightsError(RetinaFaceError):
    """A weights file is missing, damaged or belongs to another network."""


def named(error: ImageError, name: str) -> ImageError:
    """The error of an image that was given without a name, "Cannot search the array given: why.", with one."""
    return ImageError(f"Cannot search {name}: {str(error).partition(': ')[2]}")


class BatchError(RetinaFaceError):
    """Some images of a batch failed; the others were answered.

    Attributes:
        results: list in the order of the input; each entry is a `Faces` or the `ImageError` of
            that image.
    """

    def __init__(self, results: list[Faces | ImageError]):
        failures = [entry for entry in results if isinstance(entry, ImageError)]
        super().__init__(
            f"{len(failures)} of {len(results)} images failed (first: {failures[0]}); "
            "the answers of the others are in this error's .results, or pass on_error='return'."
        )
        self.results = results

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), (self.results,)


class ServingError(RetinaFaceError):
    """A model server is away, refuses a request, or has not the model asked for."""


class WorkerError(RetinaFaceError):
    """A worker of a bulk run cannot start, or dies again and again."""
