"""What happens between steps, as Keras callbacks: `fit` and the workers' loop call the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np

from retinaface_tf.errors import TrainingDiverged


class StopOnDivergence(keras.callbacks.Callback):
    """Stops when a loss is not a finite number, before anything else sees the broken weights.

    Args:
        terms: names of the loss terms, see `DetectorTraining`.
        name_of: image id -> name.
        steps_done: steps of this run so far.
        advice: what to go on with, as a sentence.
    """

    def __init__(
        self,
        terms: Sequence[str],
        name_of: Callable[[int], str],
        steps_done: Callable[[], int],
        advice: str,
    ):
        super().__init__()
        self._terms = terms
        self._name_of = name_of
        self._steps_done = steps_done
        self._advice = advice

    def on_train_batch_end(self, batch, logs=None):
        if np.isfinite(float(logs["loss"])):
            return
        bad = np.asarray(logs["bad_images"]).ravel()
        bad = bad[bad >= 0]
        bits = int(np.bitwise_or.reduce(bad)) if len(bad) else 0
        terms = [term for number, term in enumerate(self._terms) if bits >> number & 1] or ["total"]
        names = list(dict.fromkeys(self._name_of(int(code) >> len(self._terms)) for code in bad))
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise TrainingDiverged(
            f"The {' and '.join(terms)} loss is not a finite number at step {self._steps_done()}, "
            f"for {shown or 'no single image'}; {self._advice}"
        )


class MeanOfLogs(keras.callbacks.Callback):
    """Sums what the steps of an epoch return.

    Attributes:
        sums: by name; "steps" is their number.
    """

    def __init__(self):
        super().__init__()
        self.sums: dict[str, float] = {}

    def on_train_batch_end(self, batch, logs=None):
        for name, value in {**logs, "steps": 1.0}.items():
            if name != "bad_images":
                self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def means(self) -> dict[str, float]:
        """The mean of each name over the epoch's steps."""
        steps = self.sums.get("steps", 0.0)
        return {k: v / steps for k, v in self.sums.items() if k != "steps"} if steps else {}


class OnStep(keras.callbacks.Callback):
    """Calls a function with the logs after each step."""

    def __init__(self, function: Callable[[dict], None]):
        super().__init__()
        self._function = function

    def on_train_batch_end(self, batch, logs=None):
        self._function(logs)
