"""Quadric edge collapse (Garland and Heckbert 1997) that keeps a subset of the vertices.

Each removed vertex is merged into a neighbour, so a coarse level is made of vertices of the fine
one (as in Ranjan et al. 2018, CoMA), and a symmetric mesh stays symmetric: an edge and its mirror
image are collapsed together.
"""

import numpy as np

from retinaface_tf.errors import DataError
from retinaface_tf.mesh.topology import triangle_sides, unique_edges

# Planes through border edges, perpendicular to their triangle, weigh so much more than the
# triangles' own: the outline of an open mesh is kept.
_BORDER_WEIGHT = 10.0
# A small quadric around every vertex breaks ties on flat regions towards short edges.
_LENGTH_WEIGHT = 1e-3
# Share of the vertices removed between two computations of all costs.
_PER_PASS = 0.03


def simplify(
    vertices: np.ndarray,
    triangles: np.ndarray,
    count: int,
    mirror: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Removes vertices until at most `count` are left.

    Args:
        vertices: float [V, 3].
        triangles: int [T, 3], manifold, open or closed.
        count: vertices to keep; with `mirror`, one fewer may be left.
        mirror: int [V], the vertex on the other side of the plane of symmetry (itself, on the
            plane); None collapses edges one by one.

    Returns:
        kept: int [V'], indices of the vertices that stay, ascending.
        triangles: int [T', 3] of indices into `kept`.

    Raises:
        DataError: no edge can be collapsed any more without folding or tearing the mesh.
    """
    work = _Collapse(np.asarray(vertices, np.float64), np.asarray(triangles, np.int64))
    left = int(work.alive.sum())
    while left > count:
        before = left
        # Costs change around a collapse only: a few of the cheapest are done before they are
        # computed anew, none of them next to another.
        touched: set[int] = set()
        for source, target in work.candidates():
            if left <= count or before - left > _PER_PASS * before:
                break
            pair = [(source, target)]
            if mirror is not None:
                pair = _with_mirror_image(source, target, mirror)
            if not pair or not touched.isdisjoint(v for ends in pair for v in ends):
                continue
            changed = work.collapse(pair)
            touched |= changed
            left -= len(pair) if changed else 0
        if left == before:
            raise DataError(
                f"The mesh cannot be simplified below {work.alive.sum()} vertices "
                f"(asked for {count}); ask for more."
            )
    kept = np.flatnonzero(work.alive)
    position = np.full(len(vertices), -1)
    position[kept] = np.arange(len(kept))
    return kept, position[work.triangles]


def _with_mirror_image(source: int, target: int, mirror: np.ndarray) -> list:
    """The collapses that keep the mesh symmetric; none where that cannot be."""
    other_source, other_target = int(mirror[source]), int(mirror[target])
    if other_source == source:
        return [(source, target)] if other_target == target else []
    if other_source == target:
        return []
    return [(source, target), (other_source, other_target)]


class _Collapse:
    """The mesh while it is collapsed."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray):
        self.vertices = vertices
        self.triangles = triangles
        self.alive = np.zeros(len(vertices), bool)
        self.alive[triangles] = True
        self.quadrics = _quadrics(vertices, triangles)

    def candidates(self):
        """Collapses (source, target), the cheapest first."""
        pairs = unique_edges(self.triangles)
        pairs = np.concatenate([pairs, pairs[:, ::-1]])
        place = np.append(self.vertices[pairs[:, 1]], np.ones((len(pairs), 1)), axis=1)
        both = self.quadrics[pairs[:, 0]] + self.quadrics[pairs[:, 1]]
        cost = np.einsum("ni,nij,nj->n", place, both, place)
        # Rounding must not decide between an edge and its mirror image.
        cost = np.round(cost / max(cost.max(), 1e-300), 12)
        order = np.lexsort((pairs[:, 1], pairs[:, 0], cost))
        return ((int(pairs[i, 0]), int(pairs[i, 1])) for i in order)

    def collapse(self, pairs: list) -> set[int]:
        """Makes all of the collapses, or none when one of them would harm the mesh.

        Returns:
            The vertices whose surroundings changed.
        """
        triangles = self.triangles
        for source, target in pairs:
            triangles = _merged(self.vertices, triangles, source, target)
            if triangles is None:
                return set()
        ends = np.array(pairs).ravel()
        changed = set(self.triangles[np.isin(self.triangles, ends).any(1)].ravel().tolist())
        self.triangles = triangles
        for source, target in pairs:
            self.alive[source] = False
            self.quadrics[target] += self.quadrics[source]
        return changed


def _merged(vertices, triangles, source: int, target: int) -> np.ndarray | None:
    """The triangles with `source` moved onto `target`; None where that is not a fair mesh."""
    at_source = (triangles == source).any(1)
    at_target = (triangles == target).any(1)
    shared = at_source & at_target
    count = shared.sum()
    if count == 0 or len(triangles) - count < 4:
        return None
    # The link condition: neighbours of both are exactly the tips of the shared triangles, and two
    # border vertices are joined by a border edge only.
    ring_source = set(triangles[at_source].ravel()) - {source, target}
    ring_target = set(triangles[at_target].ravel()) - {source, target}
    if len(ring_source & ring_target) != count:
        return None
    border_source = len(ring_source) + 1 != at_source.sum()
    border_target = len(ring_target) + 1 != at_target.sum()
    if border_source and (not border_target or count == 2):
        return None
    moved = triangles[at_source & ~shared]
    after = np.where(moved == source, target, moved)
    before_normal, after_normal = _cross(vertices[moved]), _cross(vertices[after])
    lengths = np.linalg.norm(before_normal, axis=1) * np.linalg.norm(after_normal, axis=1)
    # No triangle may turn by more than some 75 degrees or lose its area.
    if ((before_normal * after_normal).sum(1) <= 0.25 * lengths).any():
        return None
    kept = triangles[~shared]
    return np.where(kept == source, target, kept)


def _cross(corners: np.ndarray) -> np.ndarray:
    """[N, 3] normals, twice as long as the area, of triangles [N, 3, 3]."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _quadrics(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[V, 4, 4] sums of squared-distance forms of the planes around each vertex."""
    corners = vertices[triangles]
    normal = _cross(corners)
    area = np.linalg.norm(normal, axis=1)
    unit = normal / np.maximum(area, 1e-300)[:, None]
    quadrics = np.zeros((len(vertices), 4, 4))

    def add(owners, normals, points, weight):
        plane = np.append(normals, -(normals * points).sum(1, keepdims=True), axis=1)
        forms = weight[:, None, None] * plane[:, :, None] * plane[:, None, :]
        for column in owners.T:
            np.add.at(quadrics, column, forms)

    add(triangles, unit, corners[:, 0], area)
    edges = triangle_sides(triangles)
    _, inverse, uses = np.unique(
        np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    border = uses[inverse.ravel()] == 1
    ends = vertices[edges[border]]
    along = ends[:, 1] - ends[:, 0]
    across = np.cross(along, unit[np.repeat(np.arange(len(triangles)), 3)[border]])
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-300)
    add(edges[border], across, ends[:, 0], _BORDER_WEIGHT * (along**2).sum(1))
    for axis in np.eye(3):
        everyone = np.arange(len(vertices))[:, None]
        weight = np.full(len(vertices), _LENGTH_WEIGHT * area.mean())
        add(everyone, np.tile(axis, (len(vertices), 1)), vertices, weight)
    return quadrics
