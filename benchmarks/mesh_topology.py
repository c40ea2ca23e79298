"""Builds retinaface_tf/mesh/topology.npz: 1,103 vertices and 2,110 triangles from MediaPipe's 468 points.

    python benchmarks/mesh_topology.py --wheel mediapipe-0.10.21-*.whl --labels labels/fddb

The wheel (`pip download --no-deps mediapipe==0.10.21`) is read as a zip, never installed or
imported: of it comes the list of edges that joins the 468 points. The labels are what
`data label-mesh` wrote (all 468 points are among a mesh's vertices): the mean of these faces, made
symmetric, is the mean face. `--points` takes an .npz with "points" [N, 468, 3] instead.

A disc of V vertices, F triangles and b edges on its boundary has F = 2V - 2 - b. Hence 1,103 vertices
and 2,110 triangles have 94 edges on the boundary, where MediaPipe's face oval has 36.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import zipfile
from collections import Counter, deque
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from retinaface_tf.data.mesh_labels import MeshLabelConfig, read_mesh_labels
from retinaface_tf.mesh.refinement import SymmetricMesh
from retinaface_tf.mesh.topology import MeshTopology, load_topology, save_topology

MEMBER = "mediapipe/python/solutions/face_mesh_connections.py"
VERTICES, TRIANGLES = 1103, 2110
NOSE = 1  # MediaPipe's foremost point, used to tell front from back

# Where the iBUG points of the image's left half lie on MediaPipe's mesh: a point, or (a, b, t) on
# the edge from a to b. Found by laying dlib's annotated faces over the 468 points.
IBUG_LEFT = {
    **{0: 127, 1: (234, 93, 0.57), 2: 132, 3: 58, 4: 172, 5: (136, 150, 0.4), 6: 149},
    **{7: (148, 176, 0.4), 8: 152},
    **{17: (70, 46, 0.35), 18: 63, 19: (105, 66, 0.25), 20: (66, 107, 0.2), 21: (107, 55, 0.4)},
    **{27: 168, 28: (197, 6, 0.2), 29: 195, 30: 4, 31: 75, 32: 97, 33: 2},
    **{36: (33, 7, 0.5), 37: (160, 159, 0.5), 38: 158, 39: (133, 155, 0.6), 40: 153, 41: 144},
    **{48: 61, 49: (39, 40, 0.3), 50: 37, 51: 0, 57: 17, 58: 84, 59: (181, 91, 0.6)},
    **{60: 78, 61: (82, 81, 0.25), 62: 13, 66: 14, 67: (87, 178, 0.25)},
}
IBUG_MIRROR = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
]
# The openings of the tessellation, from the outer corner (the image's left) along the upper and
# the lower rim to the other corner or, of the mouth, to its middle.
EYE_LEFT = (
    [33, 246, 161, 160, 159, 158, 157, 173, 133],
    [33, 7, 163, 144, 145, 153, 154, 155, 133],
)
MOUTH_LEFT = ([78, 191, 80, 81, 82, 13], [78, 95, 88, 178, 87, 14])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--points", type=Path)
    out = Path(__file__).parents[1] / "retinaface_tf/mesh/topology.npz"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()

    tessellation = read_tessellation(options.wheel)
    if options.points:
        measured = np.load(options.points)["points"].astype(np.float64)
    else:
        measured = points_of_labels(options.labels)
    mean, mirror = symmetric_mean(measured)
    triangles = closed_triangles(tessellation, mean, mirror)
    mesh = SymmetricMesh(mean, triangles, mirror)
    ibug = place_ibug(mesh, mirror)
    refine(mesh)
    topology = assemble(mesh, mean, ibug)
    object.__setattr__(
        topology,
        "provenance",
        {
            "made_by": "benchmarks/mesh_topology.py",
            "tessellation": f"MediaPipe 0.10.21 (Apache-2.0), {MEMBER}",
            "wheel_sha256": hashlib.sha256(options.wheel.read_bytes()).hexdigest(),
            "mean": f"{len(measured)} faces measured with MediaPipe's face landmark model, made symmetric",
        },
    )
    save_topology(topology, options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes, {topology.num_vertices} vertices,")
    print(f"{len(topology.triangles)} triangles, {len(topology.boundary)} edges on the boundary")
    sides = np.linalg.norm(np.diff(topology.mean[topology.edges], axis=1), axis=-1)
    print(f"edges from {sides.min():.4f} to {sides.max():.4f}, median {np.median(sides):.4f}")


def points_of_labels(folder: Path) -> np.ndarray:
    """[N, 468, 3] of labelled faces whose landmark model was surest."""
    labels = read_mesh_labels(folder, MeshLabelConfig(min_presence=0.98))
    topology = load_topology()
    (own,) = np.nonzero(topology.source_weights.max(axis=1) == 1)
    column = topology.source_weights[own].argmax(axis=1)
    points = np.empty((len(labels), 468, 3))
    points[:, topology.source_points[own, column]] = labels.vertices[:, own]
    return points


def read_tessellation(wheel: Path) -> np.ndarray:
    """The 852 triangles that the wheel lists as triples of directed edges: int [852, 3]."""
    with zipfile.ZipFile(wheel) as archive:
        module = ast.parse(archive.read(MEMBER))
    for statement in module.body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "FACEMESH_TESSELATION":
            edges = ast.literal_eval(statement.value.args[0])
    triples = [edges[i : i + 3] for i in range(0, len(edges), 3)]
    return np.array(sorted({tuple(sorted({v for e in t for v in e})) for t in triples}))


def symmetric_mean(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Procrustes mean of faces [N, 468, 3] that looks ahead, and which point mirrors which."""
    mean = _centered(faces[0])
    for _ in range(6):
        mean = _centered(np.mean([_align(face, mean) for face in faces], axis=0))
    reflected = mean * [-1, 1, 1]
    for _ in range(10):
        distance = ((reflected[:, None] - mean[None]) ** 2).sum(axis=-1)
        mirror = linear_sum_assignment(distance)[1]
        reflected = _align(mean * [-1, 1, 1], mean[mirror])
    assert (mirror[mirror] == np.arange(len(mean))).all()
    # With its mirror image as often as itself, the mean pose of all faces has no yaw and no roll.
    # What is left is how people hold their heads before a camera on average: pitch 0.
    mean = (mean + _align((mean * [-1, 1, 1])[mirror], mean)) / 2
    turns = [_rotation(mean, face) for face in faces]
    u, _, vt = np.linalg.svd(np.mean(turns, axis=0))
    mean = mean @ (u @ vt).T
    # Exactly symmetric about x = 0: a reflection across the plane that fits best.
    normal = (mean[mirror] - mean)[mean[mirror][:, 0] - mean[:, 0] > 0.5].mean(axis=0)
    normal /= np.linalg.norm(normal)
    down = np.array([0.0, 1, 0]) - normal * normal[1]
    down /= np.linalg.norm(down)
    mean = mean @ np.stack([normal, down, np.cross(normal, down)], axis=1)
    mean -= [mean[mirror == np.arange(len(mean)), 0].mean(), 0, 0]
    mean = (mean + (mean * [-1, 1, 1])[mirror]) / 2
    assert mean[NOSE, 2] < mean[:, 2].mean()
    return mean, mirror


def _centered(points: np.ndarray) -> np.ndarray:
    points = points - points.mean(axis=0)
    return points / np.sqrt((points**2).mean())


def _rotation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd((target - target.mean(0)).T @ (source - source.mean(0)))
    return u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt


def _align(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`source` moved, turned and scaled onto `target`."""
    turned = (source - source.mean(axis=0)) @ _rotation(source, target).T
    wanted = target - target.mean(axis=0)
    return turned * ((turned * wanted).sum() / (turned**2).sum()) + target.mean(axis=0)


def closed_triangles(tessellation: np.ndarray, mean: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """The tessellation with eyes and mouth closed, the same on both sides, wound outwards."""
    have = {frozenset(t) for t in tessellation.tolist()}
    kept = []
    for triangle in tessellation.tolist():
        mirrored = frozenset(mirror[triangle].tolist())
        # A few quadrilaterals are cut along unlike diagonals: the image's left half decides.
        if mirrored in have or mean[triangle, 0].mean() < 0:
            kept.append(triangle)
        if mirrored not in have and mean[triangle, 0].mean() < 0:
            kept.append(sorted(mirrored))
    for upper, lower in (EYE_LEFT, MOUTH_LEFT):
        for triangle in _strip(upper, lower):
            kept += [triangle, mirror[triangle].tolist()]
    return wind_outwards(kept, mean)


def _strip(upper: list[int], lower: list[int]) -> list[list[int]]:
    """Triangles between two rims of equal length that share their first and perhaps last point."""
    triangles = []
    for i in range(len(upper) - 1):
        for triangle in (
            [upper[i], upper[i + 1], lower[i + 1]],
            [upper[i], lower[i + 1], lower[i]],
        ):
            if len(set(triangle)) == 3:
                triangles.append(triangle)
    return triangles


def wind_outwards(triangles: list, mean: np.ndarray) -> np.ndarray:
    """All wound alike, counter-clockwise as seen by the viewer of a mean face in image axes."""
    by_edge: dict[frozenset, list[int]] = {}
    for number, t in enumerate(triangles):
        for i in range(3):
            by_edge.setdefault(frozenset((t[i], t[(i + 1) % 3])), []).append(number)
    wound, queue = {0: tuple(triangles[0])}, deque([0])
    while queue:
        t = wound[queue.popleft()]
        for i in range(3):
            a, b = t[i], t[(i + 1) % 3]
            for number in by_edge[frozenset((a, b))]:
                if number not in wound:
                    (c,) = set(triangles[number]) - {a, b}
                    wound[number] = (b, a, c)
                    queue.append(number)
    result = np.array([wound[i] for i in range(len(triangles))])
    a, b, c = (mean[result[:, i]] for i in range(3))
    # Facing the viewer is along -z.
    return result if np.cross(b - a, c - a)[:, 2].sum() < 0 else result[:, ::-1]


def place_ibug(mesh: SymmetricMesh, mirror: np.ndarray) -> list[int]:
    """Makes the 68 points vertices; their numbers in iBUG's order."""
    places: dict[int, int] = {}
    for number, place in IBUG_LEFT.items():
        places[number] = place if isinstance(place, int) else mesh.split(place[:2], place[2])
    for number, place in list(places.items()):
        places[IBUG_MIRROR[number]] = mesh.mirror[place]
    assert sorted(places) == list(range(68)) and len(set(places.values())) == 68
    return [places[i] for i in range(68)]


def refine(mesh: SymmetricMesh) -> None:
    """Splits the longest edges, first on the boundary, until the counts are the wanted ones."""
    boundary = 2 * VERTICES - 2 - TRIANGLES
    while len(mesh.boundary()) < boundary:
        mesh.split(max(mesh.boundary(), key=mesh.length))
    assert len(mesh.boundary()) == boundary
    while len(mesh.mirror) < VERTICES:
        outer = set(mesh.boundary())
        inner = [edge for edge in mesh.edges() if edge not in outer and mesh.splittable(edge)]
        if len(mesh.mirror) == VERTICES - 1:
            inner = [edge for edge in inner if mesh.is_middle(edge)]
        mesh.split(max(inner, key=mesh.length))
    assert (len(mesh.mirror), len(mesh.triangles)) == (VERTICES, TRIANGLES)


def assemble(mesh: SymmetricMesh, mean: np.ndarray, ibug: list[int]) -> MeshTopology:
    """Renumbers: the 68 first, the others from the forehead down."""
    points = np.zeros((VERTICES, 3), np.int32)
    weights = np.zeros((VERTICES, 3))
    for vertex, mixture in enumerate(mesh.mixtures):
        assert len(mixture) <= 3
        for k, (first, share) in enumerate(sorted(mixture.items())):
            points[vertex, k], weights[vertex, k] = first, share
    weights = weights.astype(np.float32)
    position = np.einsum("vkd,vk->vd", mean[points], weights)
    others = sorted(
        set(range(VERTICES)) - set(ibug), key=lambda v: tuple(position[v, [1, 0]].round(6))
    )
    order = np.array([*ibug, *others])
    number_of = np.argsort(order)
    position = position[order]
    position -= position[30]
    position /= np.sqrt(np.prod(np.ptp(position[:, :2], axis=0)))
    triangles = number_of[np.array(mesh.triangles)].astype(np.int32)
    mirror = number_of[np.array(mesh.mirror)[order]].astype(np.int32)
    return MeshTopology(
        name="retinaface-1103",
        triangles=triangles,
        mean=position.astype(np.float32),
        mirror=mirror,
        uv=unwrap(position, triangles, mirror).astype(np.float32),
        source_points=points[order],
        source_weights=weights[order],
    )


def unwrap(position: np.ndarray, triangles: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Texture coordinates: the rim on an ellipse, inner vertices by mean value weights.

    Such a map never folds (Tutte 1963, Floater 2003), so every place of the texture belongs to one
    place of the face. u to the right, v down, both 0..1.
    """
    count = len(position)
    directed = Counter((t[i], t[(i + 1) % 3]) for t in triangles.tolist() for i in range(3))
    following = {a: b for a, b in directed if (b, a) not in directed}
    rim = [next(iter(following))]
    while following[rim[-1]] != rim[0]:
        rim.append(following[rim[-1]])
    # Round the rim by the direction in which each vertex is seen from the face's middle.
    middle = (position[rim].min(axis=0) + position[rim].max(axis=0)) / 2
    top = int(np.argmin(position[rim, 1]))
    rim = rim[top:] + rim[:top]
    step = np.linalg.norm(np.diff(position[[*rim, rim[0]]], axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(step)[:-1]]) / step.sum()
    left = position[rim[1], 0] < middle[0]
    angle = 2 * np.pi * along * (-1 if left else 1)
    fixed = np.stack([0.5 + 0.5 * np.sin(angle), 0.5 - 0.5 * np.cos(angle)], axis=1)
    rows, columns, values = [], [], []
    for a, b, c in triangles.tolist():
        for i, j, k in ((a, b, c), (b, c, a), (c, a, b)):
            ij, ik = position[j] - position[i], position[k] - position[i]
            nj, nk = np.linalg.norm(ij), np.linalg.norm(ik)
            half = np.tan(np.arccos(np.clip(ij @ ik / (nj * nk), -1, 1)) / 2)
            rows += [i, i]
            columns += [j, k]
            values += [half / nj, half / nk]
    weights = coo_matrix((values, (rows, columns)), (count, count)).tolil()
    for vertex in rim:
        weights.rows[vertex], weights.data[vertex] = [], []
    matrix = weights.tocsr()
    total = np.asarray(matrix.sum(axis=1)).ravel()
    total[rim] = 1
    wanted = np.zeros((count, 2))
    wanted[rim] = fixed
    system = (coo_matrix((total, (range(count), range(count))), (count, count)) - matrix).tocsc()
    uv = spsolve(system, wanted)
    return (uv + np.stack([1 - uv[mirror, 0], uv[mirror, 1]], axis=1)) / 2


if __name__ == "__main__":
    main()
