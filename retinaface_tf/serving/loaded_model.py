"""One version of a SavedModel in memory, loaded as the C++ server does: by tag and tensor names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.protocol.messages import PredictionLog, SignatureDef
from retinaface_tf.protocol.tensors import to_array, type_name
from retinaface_tf.serving.request_error import RequestError

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_WARMUP_REQUESTS = 1000


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a signature.

    Attributes:
        tensor: its name in the graph.
        dtype: TensorFlow's number of the element type.
        shape: sides, -1 where open; None where even the rank is.
    """

    tensor: str
    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """A way to call the model.

    Attributes:
        inputs, outputs: by their names.
        definition: the message, for GetModelMetadata.
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    definition: SignatureDef

    def check(self, inputs: dict) -> None:
        """Raises a RequestError unless names, types and shapes of TensorProtos are right."""
        if set(inputs) != set(self.inputs):
            raise RequestError(
                "INVALID_ARGUMENT",
                f"The request has the inputs {sorted(inputs)}; the signature takes "
                f"{sorted(self.inputs)}.",
            )
        for name, message in inputs.items():
            spec = self.inputs[name]
            if message.dtype != spec.dtype:
                raise RequestError(
                    "INVALID_ARGUMENT",
                    f"Input {name!r} has the type {type_name(message.dtype)}; send "
                    f"{type_name(spec.dtype)}.",
                )
            shape = tuple(dim.size for dim in message.tensor_shape.dim)
            self.check_shape(name, shape)

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises a RequestError unless an input may have this shape."""
        wanted = self.inputs[name].shape
        if wanted is None:
            return
        fits = len(shape) == len(wanted) and all(w in (-1, side) for side, w in zip(shape, wanted))
        if not fits:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"Input {name!r} has the shape {list(shape)}; send {list(wanted)}, where -1 is "
                "any.",
            )


class LoadedModel:
    """A model version ready to answer.

    Args:
        folder: of the version, with `saved_model.pb`.
        threads: cores TensorFlow may use; 0 for all.
    """

    def __init__(self, folder: Path, threads: int = 0):
        import tensorflow as tf

        self.folder = folder
        self.version = int(folder.name) if folder.name.isdigit() else 1
        options = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
        )
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=options)
        with self._session.graph.as_default():
            meta = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        self.signatures = {
            name: _read_signature(definition)
            for name, definition in meta.signature_def.items()
            if not name.startswith("__")
        }
        self._calls = {}
        for name, signature in self.signatures.items():
            graph = self._session.graph
            self._calls[name] = self._session.make_callable(
                [graph.get_tensor_by_name(s.tensor) for s in signature.outputs.values()],
                [graph.get_tensor_by_name(s.tensor) for s in signature.inputs.values()],
            )

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs of a signature; may be called from several threads at once."""
        definition = self.signatures[signature]
        values = self._calls[signature](*(inputs[name] for name in definition.inputs))
        return dict(zip(definition.outputs, values))

    def warm_up(self) -> int:
        """Replays the requests in `assets.extra`, as TF-Serving does; returns how many."""
        import tensorflow as tf

        path = self.folder / WARMUP_FILE
        if not path.is_file():
            return 0
        count = 0
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            request = PredictionLog.FromString(record).predict_log.request
            arrays = {name: to_array(value) for name, value in request.inputs.items()}
            self.run(request.model_spec.signature_name or "serving_default", arrays)
            count += 1
            if count >= MAX_WARMUP_REQUESTS:
                break
        return count

    def describe(self) -> dict:
        """What the exporter noted beside the model; empty for a foreign model."""
        try:
            return json.loads((self.folder / "assets.extra" / "retinaface.json").read_text())
        except (OSError, ValueError):
            return {}

    def close(self) -> None:
        """Frees the memory; nothing may be running."""
        self._session.close()


def _read_signature(definition) -> Signature:
    def specs(tensors) -> dict[str, TensorSpec]:
        found = {}
        for name, info in sorted(tensors.items()):
            shape = info.tensor_shape
            sides = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
            found[name] = TensorSpec(info.name, info.dtype, sides)
        return found

    # TensorFlow's own class of the message, over to ours.
    copy = SignatureDef.FromString(definition.SerializeToString())
    return Signature(specs(definition.inputs), specs(definition.outputs), copy)
