"""Principal components of faces: the mesh decoder's codes, and its baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LinearFaces:
    """Faces as a mean and orthogonal directions (numpy).

    Attributes:
        mean: float32 [D].
        basis: float32 [K, D], orthonormal, the direction of greatest variance first.
        deviation: float32 [K], standard deviation along each.
    """

    mean: np.ndarray
    basis: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, samples: np.ndarray, count: int, seed: int = 0) -> LinearFaces:
        """The leading components of samples [N, D] (randomised range finder, Halko et al. 2011)."""
        count = min(count, len(samples) - 1, samples.shape[1])
        mean = samples.mean(0, dtype=np.float64).astype(np.float32)
        centered = samples - mean
        width = min(count + 24, *samples.shape)
        start = np.random.default_rng(seed).normal(size=(samples.shape[1], width))
        span = centered @ start.astype(np.float32)
        for _ in range(4):
            span, _ = np.linalg.qr(span)
            span, _ = np.linalg.qr(centered.T @ span)
            span = centered @ span
        span, _ = np.linalg.qr(span)
        _, singular, basis = np.linalg.svd(span.T @ centered, full_matrices=False)
        deviation = singular[:count] / np.sqrt(len(samples) - 1)
        return cls(mean, basis[:count].astype(np.float32), deviation.astype(np.float32))

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """[N, D] -> codes [N, K] of variance 1."""
        return (samples - self.mean) @ self.basis.T / self.deviation

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """[N, K] codes, or the first of them -> [N, D]."""
        count = codes.shape[1]
        return self.mean + (codes * self.deviation[:count]) @ self.basis[:count]
