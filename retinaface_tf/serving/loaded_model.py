"""One version of a SavedModel in memory, loaded as the C++ server does: by tag and tensor names."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from retinaface_tf.protocol.messages import PredictionLog, SignatureDef, SignatureDefMap
from retinaface_tf.protocol.tensors import to_array, type_name
from retinaface_tf.serving.request_error import RequestError
from retinaface_tf.util.files import is_file
from retinaface_tf.util.process import available_cores

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_WARMUP_REQUESTS = 1000


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a signature.

    Attributes:
        dtype: TensorFlow's number of the element type.
        shape: sides, -1 where open; None where even the rank is open.
    """

    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Signature:
    """A way to call the model.

    Attributes:
        name: "serving_default" for one.
        inputs, outputs: by their names, sorted.
        definition: the message, for GetModelMetadata.
        call: takes the inputs' arrays in order and `seconds`, and returns the outputs'.
    """

    name: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    definition: SignatureDef
    call: Callable[..., list[np.ndarray]]

    def run(self, inputs: dict[str, np.ndarray], seconds: float = 600.0) -> dict[str, np.ndarray]:
        """All outputs; several threads may call it at the same time.

        Raises:
            RequestError: it takes longer than `seconds`; the graph stops.
        """
        arrays = (inputs[name] for name in self.inputs)
        return dict(zip(self.outputs, self.call(*arrays, seconds=seconds)))

    def check(self, inputs: dict) -> None:
        """Raises a RequestError unless names, types and shapes of TensorProtos are right."""
        if set(inputs) != set(self.inputs):
            raise RequestError(
                f"The request has the inputs {sorted(inputs)}; the signature takes "
                f"{sorted(self.inputs)}."
            )
        for name, message in inputs.items():
            spec = self.inputs[name]
            if message.dtype != spec.dtype:
                raise RequestError(
                    f"Input {name!r} has the type {type_name(message.dtype)}; send "
                    f"{type_name(spec.dtype)}."
                )
            self.check_shape(name, tuple(dim.size for dim in message.tensor_shape.dim))

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises a RequestError unless an input may have this shape."""
        wanted = self.inputs[name].shape
        if wanted is None:
            return
        fits = len(shape) == len(wanted) and all(w in (-1, side) for side, w in zip(shape, wanted))
        if not fits:
            raise RequestError(
                f"Input {name!r} has the shape {list(shape)}; send {list(wanted)}, where -1 is any."
            )


class LoadedModel:
    """A model version that is ready to answer.

    Args:
        folder: of the version, with `saved_model.pb`.
        threads: cores TensorFlow may use; 0 for all.
        runs: that go on at the same time. Each has threads of its own for its operators: in common
            ones a large image keeps all others waiting until it is decoded.
    """

    def __init__(self, folder: Path, threads: int = 0, runs: int = 4):
        import tensorflow as tf

        self.folder = folder
        self.version = int(folder.name) if folder.name.isdigit() else 1
        options = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads)
        self._free_pools: SimpleQueue[int] = SimpleQueue()
        for pool in range(runs):
            options.session_inter_op_thread_pool.add(num_threads=threads or available_cores())
            self._free_pools.put(pool)
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=options)
        with self._session.graph.as_default():
            meta = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        self.signatures = {
            name: self._read_signature(name, definition)
            for name, definition in meta.signature_def.items()
            if not name.startswith("__")
        }

    def signature(self, name: str = "") -> Signature:
        """The signature of this name; `serving_default` without one.

        Raises:
            RequestError: there is none.
        """
        name = name or "serving_default"
        if name not in self.signatures:
            raise RequestError(
                f"There is no signature {name!r}; there are {sorted(self.signatures)}."
            )
        return self.signatures[name]

    def definitions(self) -> SignatureDefMap:
        """The signatures as GetModelMetadata gives them."""
        message = SignatureDefMap()
        for name, signature in self.signatures.items():
            message.signature_def[name].CopyFrom(signature.definition)
        return message

    def warm_up(self) -> int:
        """Replays the requests in `assets.extra`, as TF-Serving does; returns how many."""
        import tensorflow as tf

        path = self.folder / WARMUP_FILE
        if not is_file(path):
            return 0
        count = 0
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            request = PredictionLog.FromString(record).predict_log.request
            arrays = {name: to_array(value) for name, value in request.inputs.items()}
            self.signature(request.model_spec.signature_name).run(arrays)
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

    def _read_signature(self, name: str, definition) -> Signature:
        import tensorflow as tf

        inputs, outputs = (sorted(part.items()) for part in (definition.inputs, definition.outputs))
        tensor = self._session.graph.get_tensor_by_name
        run = self._session.make_callable(
            [tensor(info.name) for _, info in outputs],
            [tensor(info.name) for _, info in inputs],
            accept_options=True,
        )

        def call(*arrays: np.ndarray, seconds: float) -> list[np.ndarray]:
            pool = self._free_pools.get()
            options = tf.compat.v1.RunOptions(
                timeout_in_ms=max(1, int(seconds * 1000)),  # 0 is for ever
                inter_op_thread_pool=pool,
            )
            try:
                return run(*arrays, options=options)
            except tf.errors.DeadlineExceededError:
                raise RequestError(
                    f"The images took longer than {seconds:.1f} s; send fewer or smaller ones at "
                    "once, or start the server with a larger --run-seconds.",
                    "DEADLINE_EXCEEDED",
                ) from None
            finally:
                self._free_pools.put(pool)

        # TensorFlow's own class of the message, over to ours.
        copy = SignatureDef.FromString(definition.SerializeToString())
        return Signature(name, _specs(inputs), _specs(outputs), copy, call)


def _specs(tensors) -> dict[str, TensorSpec]:
    specs = {}
    for name, info in tensors:
        shape = info.tensor_shape
        sides = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
        specs[name] = TensorSpec(info.dtype, sides)
    return specs
