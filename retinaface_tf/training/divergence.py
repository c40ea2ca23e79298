"""The stop of a training whose loss is not a finite number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from retinaface_tf.errors import TrainingDiverged


def require_finite(
    logs: Mapping[str, Any],
    terms: Sequence[str],
    name_of: Callable[[int], str],
    step: int,
    advice: str,
) -> None:
    """Raises `TrainingDiverged` where the loss of a step is not a finite number.

    Args:
        logs: of `DetectorTraining.train_step`.
        terms: names of the loss terms, see there.
        name_of: image id -> name.
        step: number of steps done.
        advice: what to do, as the end of the sentence that names step, terms and images.
    """
    if np.isfinite(float(logs["loss"])):
        return
    bad = np.asarray(logs["bad_images"]).ravel().astype(np.int64)
    bad = bad[bad >= 0]
    bits = int(np.bitwise_or.reduce(bad)) if len(bad) else 0
    found = [term for number, term in enumerate(terms) if bits >> number & 1] or ["total"]
    names = list(dict.fromkeys(name_of(int(code) >> len(terms)) for code in bad))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise TrainingDiverged(
        f"The {' and '.join(found)} loss is not a finite number at step {step}, "
        f"for {shown or 'no single image'}; {advice}"
    )
