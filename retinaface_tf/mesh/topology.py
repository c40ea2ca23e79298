"""The triangle mesh of a dense face."""

import functools
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np

from retinaface_tf.errors import DataError
from retinaface_tf.geometry.namespace import array_namespace
from retinaface_tf.util.npz import read_npz

# The nose tip among the 68 iBUG points, which come first in our own topology.
NOSE_TIP = 30
IBUG_POINTS = 68


@dataclass(frozen=True, eq=False)
class MeshTopology:
    """A triangle mesh of a face.

    Our own (`load_topology()`) has 1,103 vertices, the 68 iBUG points first, and 2,110 triangles,
    as many as the paper's (CVPR 2020, section 3.3); it is a disc: one boundary, eyes and mouth
    closed.

    Attributes:
        name: "retinaface-1103", or the file it was read from.
        triangles: int32 [F, 3] vertex numbers, counter-clockwise as seen from outside the face.
        mean: float32 [V, 3] a mean face that looks at the camera: x to the image's right, y down,
            z away from the viewer, the nose tip at 0, the square root of (width x height) is 1.
        mirror: int32 [V] each vertex's place in the mirrored face, or None where the mesh is not
            symmetric.
        uv: float32 [V, 2] texture coordinates in 0..1, u to the right, v down; None where the file
            has none.
        source_points, source_weights: int32 and float32 [V, 3], each vertex as a mixture of three
            of MediaPipe's 468 points; None for a mesh from elsewhere.
        nose_tip: the vertex whose depth is 0.
    """

    name: str
    triangles: np.ndarray
    mean: np.ndarray
    mirror: np.ndarray | None = None
    uv: np.ndarray | None = None
    source_points: np.ndarray | None = None
    source_weights: np.ndarray | None = None
    nose_tip: int = NOSE_TIP
    provenance: dict = field(default_factory=dict)

    @property
    def num_vertices(self) -> int:
        return len(self.mean)

    @functools.cached_property
    def edges(self) -> np.ndarray:
        """int32 [E, 2] every edge once, the smaller vertex first, in ascending order."""
        return unique_edges(self.triangles)

    def from_mediapipe(self, points: np.ndarray) -> np.ndarray:
        """MediaPipe's points [..., 468, D] as this mesh's vertices [..., V, D], in float32.

        Raises:
            DataError: the mesh was not made from MediaPipe's.
        """
        if self.source_points is None:
            raise DataError(f"The mesh {self.name} has no map from MediaPipe's 468 points.")
        corners = np.asarray(points)[..., self.source_points, :]
        return np.einsum("...vkd,vk->...vd", corners, self.source_weights).astype(np.float32)

    def flip(self, vertices: np.ndarray) -> np.ndarray:
        """[..., V, D] reordered as the mirrored image has them; x itself is left to the caller.

        Raises:
            DataError: the mesh is not symmetric.
        """
        if self.mirror is None:
            raise DataError(f"The mesh {self.name} is not symmetric, so faces cannot be mirrored.")
        return vertices[..., self.mirror, :]


def load_topology(path: str | Path | None = None) -> MeshTopology:
    """Our own topology, or the one in a file.

    Args:
        path: a Wavefront `.obj` whose x points to the image's right, y up and z to the viewer, as
            modelling programs have it, or an `.npz` like ours; None for ours.

    Raises:
        DataError: the file is missing, damaged or no triangle mesh.
    """
    if path is None:
        return _own_topology()
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no mesh file {path}; check the path.")
    if path.suffix == ".obj":
        return _topology_of_obj(path)
    return _read_npz(path, str(path))


@functools.cache
def _own_topology() -> MeshTopology:
    content = (resources.files("retinaface_tf.mesh") / "topology.npz").read_bytes()
    return _read_npz(content, "retinaface-1103")


def triangle_sides(triangles: np.ndarray) -> np.ndarray:
    """The sides of triangles [F, 3] as their winding goes: [3 F, 2], three for each triangle."""
    return triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def unique_edges(triangles: np.ndarray) -> np.ndarray:
    """int32 [E, 2] the edges of triangles [F, 3], each once, the smaller vertex first, sorted."""
    return np.unique(np.sort(triangle_sides(triangles), axis=1), axis=0).astype(np.int32)


def _read_npz(source: Path | bytes, name: str) -> MeshTopology:
    remedy = "give an .npz of this program or an .obj"
    arrays, provenance = read_npz(
        source, key="provenance", name=name, remedy=remedy, error=DataError
    )
    for key, values in arrays.items():
        arrays[key] = values.astype(np.int32 if values.dtype.kind in "iu" else np.float32)
    nose_tip = provenance.pop("nose_tip", NOSE_TIP)
    try:
        topology = MeshTopology(name=name, **arrays, nose_tip=nose_tip, provenance=provenance)
    except TypeError:
        raise DataError(f"{name} is not a mesh topology; {remedy}.") from None
    _check(topology, name)
    return topology


def _topology_of_obj(path: Path) -> MeshTopology:
    from retinaface_tf.mesh.files import read_obj

    points, triangles, uv = read_obj(path)
    mean = points * np.array([1, -1, -1])
    nose_tip = int(mean[:, 2].argmin())
    mean = mean - mean[nose_tip]
    mean = mean / np.sqrt(np.prod(np.ptp(mean[:, :2], axis=0)))
    # From y up to y down the outer side stays the outer side: turned by 180 degrees about x.
    topology = MeshTopology(
        name=str(path),
        triangles=triangles,
        mean=mean.astype(np.float32),
        mirror=_find_mirror(mean),
        uv=uv,
        nose_tip=nose_tip,
        provenance={"file": str(path)},
    )
    _check(topology, path)
    return topology


def _find_mirror(points: np.ndarray) -> np.ndarray | None:
    """The permutation of a mesh that is symmetric to a hundredth of its size, else None."""
    from scipy.spatial import cKDTree

    middle = (points[:, 0].min() + points[:, 0].max()) / 2
    mirrored = points * [-1, 1, 1] + [2 * middle, 0, 0]
    distance, mirror = cKDTree(points).query(mirrored)
    alike = distance.max() < 0.01 and (mirror[mirror] == np.arange(len(points))).all()
    return mirror.astype(np.int32) if alike else None


def _check(topology: MeshTopology, path: Path | str) -> None:
    triangles, count = topology.triangles, topology.num_vertices
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not len(triangles):
        raise DataError(f"{path} has no triangles; give a triangle mesh.")
    if triangles.min() < 0 or triangles.max() >= count or not np.isfinite(topology.mean).all():
        raise DataError(f"{path} names vertices it does not have, or has no numbers for some.")


def five_of_vertices(vertices):
    """Eye centres, nose tip and mouth corners of points whose first 68 are iBUG's.

    iBUG numbers from the image's left: eyes are the means of points 37-42 and 43-48 (from 1), the
    nose tip is 31, the mouth corners 49 and 55.

    Args:
        vertices: [..., V, D], V at least 68; numpy, or tensors of the Keras backend.

    Returns:
        [..., 5, D].
    """
    xp = array_namespace(vertices)
    eyes = [xp.mean(vertices[..., first : first + 6, :], axis=-2) for first in (36, 42)]
    return xp.stack([*eyes, *(vertices[..., i, :] for i in (30, 48, 54))], axis=-2)
