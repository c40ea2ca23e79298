"""Labelled faces as what the mesh decoder learns: shapes without their pose, skins without light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from retinaface_tf.errors import DataError, ImageError
from retinaface_tf.geometry.similarity import fit_similarity
from retinaface_tf.mesh.topology import MeshTopology
from retinaface_tf.reconstruction.lighting import incident_triangles, vertex_normals

if TYPE_CHECKING:
    from retinaface_tf.data.readers.mesh_labels import MeshLabels

# Vertices turned further from the viewer than this (cosine) are not seen.
_FACING = 0.25
# The darkest and the lightest shading, relative to the mean, that a fitted light may explain.
_SHADE_RANGE = (0.4, 2.0)


@dataclass(frozen=True, eq=False)
class FaceMeshes:
    """Faces without pose and light.

    Attributes:
        shapes: float32 [N, V, 3] in the topology's coordinates.
        albedos: float32 [N, V, 3] RGB 0..1.
        images: str [N], which image a face is from; "" for synthetic ones.
    """

    shapes: np.ndarray
    albedos: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, chosen) -> FaceMeshes:
        return FaceMeshes(self.shapes[chosen], self.albedos[chosen], self.images[chosen])

    def joined(self) -> np.ndarray:
        """float32 [N, V, 6] x, y, z, r, g, b, as the decoder gives them."""
        return np.concatenate([self.shapes, self.albedos], axis=-1)

    @classmethod
    def concatenate(cls, parts) -> FaceMeshes:
        """All faces of several sets."""
        fields = ("shapes", "albedos", "images")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def unposed(vertices: np.ndarray, topology: MeshTopology) -> np.ndarray:
    """Moves, turns and scales each face [N, V, 3] onto the topology's mean face: float32 [N, V, 3]."""
    scale, rotation, shift = fit_similarity(vertices, topology.mean)
    shapes = scale[:, None, None] * vertices @ np.swapaxes(rotation, 1, 2) + shift[:, None]
    return shapes.astype(np.float32)


def read_face_meshes(
    labels: MeshLabels,
    topology: MeshTopology,
    progress: Callable[[int], object] | None = None,
) -> FaceMeshes:
    """Shapes and skins of labelled faces; faces of images that cannot be read are left out.

    A vertex that is turned away takes the colour of its mirror image; where that is turned away too,
    the mean of the seen skin. Shading that is linear in the normal (a distant light and its
    surroundings on a matt face) is fitted to brightness relative to the mean skin and divided out.

    Args:
        labels: of `read_mesh_labels`, filtered.
        topology: of its vertices; with a mirror permutation.
        progress: called with the number of faces done since the last call.

    Raises:
        DataError: no face could be read.
    """
    from retinaface_tf.images.read import read_image

    shapes = unposed(labels.vertices, topology)
    incident = incident_triangles(topology.triangles, topology.num_vertices)
    normals = vertex_normals(ops.convert_to_tensor(labels.vertices), topology.triangles, incident)
    normals = ops.convert_to_numpy(normals)
    colors = np.zeros_like(shapes)
    readable = np.zeros(len(labels), bool)
    for number in np.unique(labels.image):
        mine = np.flatnonzero(labels.image == number)
        try:
            image = read_image(labels.images[number])
        except ImageError:
            continue
        for i in mine:
            colors[i] = sample_colors(image, labels.vertices[i])
        readable[mine] = True
        if progress:
            progress(len(mine))
    if not readable.any():
        raise DataError("No image of the labelled faces could be read; check their folder.")
    seen = normals[..., 2] < -_FACING
    albedos = _unlit(colors[readable], normals[readable], seen[readable])
    albedos = _filled(albedos, seen[readable], topology.mirror)
    sources = np.array([str(Path(labels.images[i])) for i in labels.image[readable]])
    return FaceMeshes(shapes[readable], albedos.astype(np.float32), sources)


def sample_colors(image: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """RGB 0..1 float32 [V, 3] of the image under each vertex, bilinear.

    An image much finer than the mesh is blurred first, so that a vertex has the mean colour of its
    surroundings and not of one pore.
    """
    import cv2

    # Neighbouring vertices are about 1 / 35 of the face apart.
    spacing = np.sqrt(np.prod(np.ptp(vertices[:, :2], axis=0))) / 35
    low = np.floor(vertices[:, :2].min(0)).astype(int) - 8
    high = np.ceil(vertices[:, :2].max(0)).astype(int) + 8
    left, top = np.clip(low, 0, np.array(image.shape[1::-1]) - 1)
    right, bottom = np.clip(high, (left + 1, top + 1), image.shape[1::-1])
    part = image[top:bottom, left:right].astype(np.float32) / 255
    if spacing > 1.5:
        part = cv2.GaussianBlur(part, (0, 0), spacing / 3)
    # OpenCV counts pixels' centres as whole numbers, the labels as halves.
    place = (vertices[:, :2] - (left + 0.5, top + 0.5)).astype(np.float32)
    return cv2.remap(
        part,
        place[None, :, 0],
        place[None, :, 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )[0]


def _unlit(colors: np.ndarray, normals: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Colours divided by the fitted shading, whose mean over what is seen is 1."""
    brightness = (
        colors.mean(-1)
        / np.maximum((colors.mean(-1) * seen).sum(1) / np.maximum(seen.sum(1), 1), 1e-3)[:, None]
    )
    counts = np.maximum(seen.sum(0), 1)
    mean_skin = np.maximum((brightness * seen).sum(0) / counts, 0.2)
    result = np.empty_like(colors)
    for i in range(len(colors)):
        chosen = seen[i]
        if chosen.sum() < 50:
            result[i] = colors[i]
            continue
        ratio = brightness[i] / mean_skin
        design = np.append(np.ones((len(ratio), 1)), normals[i], axis=1)
        # Twice, the second time without highlights, shadows and hair.
        for _ in range(2):
            fit, *_ = np.linalg.lstsq(design[chosen], ratio[chosen], rcond=None)
            gap = np.abs(ratio - design @ fit)
            chosen = seen[i] & (gap <= 2 * np.median(gap[seen[i]]))
        shade = np.clip(design @ fit, *_SHADE_RANGE)
        result[i] = colors[i] / (shade / shade[seen[i]].mean())[:, None]
    return np.clip(result, 0, 1)


def _filled(albedos: np.ndarray, seen: np.ndarray, mirror: np.ndarray | None) -> np.ndarray:
    """Colours for vertices that are turned away."""
    weight = seen[..., None]
    mean = (albedos * weight).sum(1, keepdims=True) / np.maximum(weight.sum(1, keepdims=True), 1)
    fallback = np.broadcast_to(mean, albedos.shape)
    if mirror is not None:
        fallback = np.where(weight[:, mirror], albedos[:, mirror], fallback)
    return np.where(weight, albedos, fallback)
