"""Which faces are of one person, by their embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.util.extras import require

# Their distances are compared pair by pair: 1.6 GB.
MOST_FACES = 20_000


def check_similarity(similarity: float) -> None:
    """ConfigError unless it is a cosine."""
    if not -1 <= similarity <= 1:
        raise ConfigError(f"similarity={similarity} must be within -1..1.")


def group_faces(embeddings: NDArray[np.float32], similarity: float = 0.4) -> NDArray[np.int64]:
    """Groups faces by average linkage: two groups become one while the mean cosine between their faces
    is at least `similarity`.

    Args:
        embeddings: [N, D], of any length.
        similarity: a cosine, -1..1; what suits depends on the embedder.

    Returns:
        int64 [N], the person of each face: 0 has the most faces, of equally many the one met first.

    Raises:
        ConfigError: the similarity is out of range, or there are more than 20,000 faces.
        DataError: an embedding is no finite vector.
        MissingPackage: scipy is not installed.
    """
    check_similarity(similarity)
    if len(embeddings) > MOST_FACES:
        raise ConfigError(
            f"{len(embeddings)} faces are more than the {MOST_FACES} that can be compared at once; "
            "group fewer photos, or leave out faces of low quality."
        )
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=-1)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise DataError(
            "The embedder gave a face no finite vector; check its input's mean and scale."
        )
    if len(embeddings) < 2:
        return np.zeros(len(embeddings), np.int64)
    require("evaluate", "scipy", for_="Grouping faces")
    from scipy.cluster.hierarchy import fcluster, linkage

    # Rounding must not part what is equal.
    distance = 1 - similarity + 1e-9
    found = fcluster(linkage(embeddings, "average", metric="cosine"), distance, "distance")
    _, first, group, counts = np.unique(
        found, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(counts), np.int64)
    rank[np.lexsort((first, -counts))] = np.arange(len(counts))
    return rank[group]
