"""A function of a network as the SavedModel that converters take."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

    from retinaface_tf.models import RetinaFaceNetwork


@contextlib.contextmanager
def saved_graph(
    network: RetinaFaceNetwork,
    forward: Callable,
    signature: tf.TensorSpec,
    deformable: Callable[..., Any] | None = None,
) -> Iterator[str]:
    """A temporary folder with a SavedModel whose endpoint "serve" is a function of a network.

    By way of ExportArchive: with `from_concrete_functions` the variables of a Keras 3 model stay
    variables and TFLite's outputs are NaN, without an error.

    Args:
        network: whose weights the function uses.
        forward: of one tensor.
        deformable: see `layers.deformable_conv.for_exporters`.
    """
    import keras

    from retinaface_tf.layers.deformable_conv import for_exporters

    archive = keras.export.ExportArchive()
    archive.track(network)
    with tempfile.TemporaryDirectory(prefix="retinaface-tf-") as folder:
        with for_exporters(network, deformable):
            archive.add_endpoint("serve", forward, input_signature=[signature])
            archive.write_out(folder, verbose=False)
        yield folder
