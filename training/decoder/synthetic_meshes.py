"""Synthetic faces for the mesh decoder: smooth deformations of the mean face and painted skins.

Deformations are mixtures of the mesh's smoothest vibrations (eigenvectors of its Laplacian), mostly
symmetric, the larger the smoother: what the first components of a scanned-face model look like,
without the scans. numpy only.
"""

from __future__ import annotations

import functools

import numpy as np

from retinaface_tf.mesh.topology import MeshTopology
from retinaface_tf.reconstruction.sparse_rows import mesh_laplacian

# How far the smoothest vibration moves vertices, in face sizes; and the number of vibrations.
_AMPLITUDE = 0.02
_VIBRATIONS = 48
# Points of the 68 that are painted darker or redder than skin.
_BROWS, _EYES, _LIPS = range(17, 27), range(36, 48), range(48, 68)


def random_shapes(topology: MeshTopology, count: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [count, V, 3] deformed mean faces in the topology's coordinates, the nose tip at 0."""
    modes, stiffness = vibrations(topology)
    fade = _AMPLITUDE * stiffness[0] / stiffness
    mixture = rng.normal(size=(count, len(fade), 3)) * fade[:, None]
    moved = np.einsum("vk,nkd->nvd", modes, mixture)
    if topology.mirror is not None:
        other = moved[:, topology.mirror] * (-1, 1, 1)
        moved = (moved + other) / 2 + 0.15 * (moved - other) / 2
    stretch = 1 + rng.normal(0, 0.05, (count, 1, 3))
    shapes = topology.mean * stretch + moved
    shapes -= shapes[:, topology.nose_tip : topology.nose_tip + 1]
    return shapes.astype(np.float32)


def random_albedos(topology: MeshTopology, count: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [count, V, 3] RGB 0..1: skins with brows, eyes and lips and smooth blotches.

    A mesh that has no 68 points first is painted with skin alone.
    """
    modes, stiffness = vibrations(topology)
    tone = rng.uniform(0.3, 1, (count, 1, 1))
    skin = tone * np.array([0.85, 0.62, 0.5]) * (1 + rng.normal(0, 0.04, (count, 1, 3)))
    blotches = rng.normal(size=(count, len(stiffness), 1)) * 0.04
    blotches = np.einsum("vk,nkd->nvd", modes, blotches * (stiffness[0] / stiffness)[:, None])
    albedo = skin + blotches * (1, 0.9, 0.8)
    if topology.provenance.get("file") is None and topology.num_vertices > 68:
        for points, target, strength, reach in (
            (_BROWS, np.array([0.2, 0.13, 0.1]), rng.uniform(0.3, 0.9, (count, 1)), 0.025),
            (_EYES, np.array([0.15, 0.12, 0.12]), rng.uniform(0.5, 0.9, (count, 1)), 0.02),
            (_LIPS, np.array([0.65, 0.25, 0.25]), rng.uniform(0.2, 0.8, (count, 1)), 0.025),
        ):
            near = _nearness(topology, points, reach) * strength
            albedo = albedo + near[..., None] * (target - albedo)
    return np.clip(albedo, 0, 1).astype(np.float32)


@functools.cache
def vibrations(topology: MeshTopology) -> tuple[np.ndarray, np.ndarray]:
    """The mesh's smoothest fields [V, K], each of mean square 1, and their eigenvalues [K].

    Of the graph Laplacian with the constant field left out; ascending.
    """
    from scipy.sparse.linalg import eigsh

    laplacian = mesh_laplacian(topology.triangles, topology.num_vertices)
    start = np.linspace(1, 2, topology.num_vertices)  # the same vibrations on every call
    values, fields = eigsh(laplacian.tocsc(), _VIBRATIONS + 1, sigma=-1e-3, v0=start)
    order = np.argsort(values)[1:]
    fields = fields[:, order]
    fields *= np.sqrt(len(fields)) * np.sign(
        fields[np.abs(fields).argmax(0), range(fields.shape[1])]
    )
    return fields, values[order]


def _nearness(topology: MeshTopology, points, reach: float) -> np.ndarray:
    """[V] 1 at some of the vertices, falling to 0 over `reach` face sizes."""
    gaps = np.linalg.norm(topology.mean[:, None] - topology.mean[list(points)][None], axis=-1)
    return np.exp(-0.5 * (gaps.min(1) / reach) ** 2)
