"""Making a triangle mesh finer by splitting edges, the same on both sides of its mirror line."""

from __future__ import annotations

import numpy as np


class SymmetricMesh:
    """A triangle mesh whose vertices are mixtures of the first ones, refined edge by edge.

    Splitting an edge cuts the one or two triangles beside it in two, so no triangle ever meets
    another's edge halfway. Every split is done on both sides of the mirror line.

    Args:
        positions: float [V, 3] of the first vertices.
        triangles: int [F, 3], wound alike.
        mirror: int [V], the vertex on the other side; a vertex on the line is its own.

    Attributes:
        triangles: list of vertex triples.
        mirror: list.
        mixtures: for every vertex, {first vertex: share}; shares are positive and sum to 1.

    Raises:
        ValueError: the triangles are not the same on both sides.
    """

    def __init__(self, positions: np.ndarray, triangles: np.ndarray, mirror: np.ndarray):
        self.triangles = [tuple(int(v) for v in t) for t in triangles]
        self.mirror = [int(v) for v in mirror]
        self.mixtures = [{v: 1.0} for v in range(len(positions))]
        self._positions = [np.asarray(p, np.float64) for p in positions]
        self._beside: dict[tuple[int, int], set[int]] = {}
        for t in range(len(self.triangles)):
            self._note(t)
        mirrored = {frozenset(self.mirror[v] for v in t) for t in self.triangles}
        if mirrored != {frozenset(t) for t in self.triangles}:
            raise ValueError("the triangles are not the same on both sides of the mirror line")

    def edges(self) -> list[tuple[int, int]]:
        """Pairs of vertices, the smaller first."""
        return list(self._beside)

    def boundary(self) -> list[tuple[int, int]]:
        """Edges with one triangle."""
        return [edge for edge, beside in self._beside.items() if len(beside) == 1]

    def length(self, edge: tuple[int, int]) -> float:
        a, b = edge
        return float(np.linalg.norm(self._positions[a] - self._positions[b]))

    def is_middle(self, edge: tuple[int, int]) -> bool:
        """Whether the edge lies on the mirror line or crosses it: it is its own mirror."""
        return self._mirrored(edge) == _ordered(edge)

    def split(self, edge: tuple[int, int], t: float = 0.5) -> int:
        """A new vertex at `a + t (b - a)`, and its mirror where that is another one.

        Returns:
            The new vertex.

        Raises:
            ValueError: there is no such edge, or the two sides' edges share a triangle (which
                would be cut unlike on the two sides).
        """
        a, b = edge
        other = (self.mirror[a], self.mirror[b])
        if _ordered(edge) not in self._beside:
            raise ValueError(f"there is no edge {edge}")
        if not self.is_middle(edge):
            if self._beside[_ordered(edge)] & self._beside[_ordered(other)]:
                raise ValueError(f"the edge {edge} and its mirror {other} share a triangle")
            new = self._split_one(edge, t)
            self.mirror += [new + 1, new]
            self._split_one(other, t)
            return new
        if (a, b) != other and t != 0.5:
            raise ValueError(f"the edge {edge} crosses the mirror line and is split in its middle")
        new = self._split_one(edge, t)
        self.mirror.append(new)
        return new

    def splittable(self, edge: tuple[int, int]) -> bool:
        """Whether `split` can do this edge."""
        return self.is_middle(edge) or not (
            self._beside[_ordered(edge)] & self._beside[self._mirrored(edge)]
        )

    def _mirrored(self, edge: tuple[int, int]) -> tuple[int, int]:
        return _ordered((self.mirror[edge[0]], self.mirror[edge[1]]))

    def _split_one(self, edge: tuple[int, int], t: float) -> int:
        a, b = edge
        new = len(self._positions)
        self._positions.append((1 - t) * self._positions[a] + t * self._positions[b])
        mixture: dict[int, float] = {}
        for vertex, share in ((a, 1 - t), (b, t)):
            for first, weight in self.mixtures[vertex].items():
                mixture[first] = mixture.get(first, 0.0) + share * weight
        self.mixtures.append(mixture)
        for number in sorted(self._beside[_ordered(edge)]):
            old = self.triangles[number]
            self._forget(number)
            self.triangles[number] = tuple(new if v == a else v for v in old)
            self.triangles.append(tuple(new if v == b else v for v in old))
            self._note(number)
            self._note(len(self.triangles) - 1)
        return new

    def _note(self, number: int) -> None:
        for edge in _edges_of(self.triangles[number]):
            self._beside.setdefault(edge, set()).add(number)

    def _forget(self, number: int) -> None:
        for edge in _edges_of(self.triangles[number]):
            self._beside[edge].discard(number)
            if not self._beside[edge]:
                del self._beside[edge]


def _ordered(edge: tuple[int, int]) -> tuple[int, int]:
    return (edge[0], edge[1]) if edge[0] < edge[1] else (edge[1], edge[0])


def _edges_of(triangle: tuple[int, int, int]) -> list[tuple[int, int]]:
    a, b, c = triangle
    return [_ordered((a, b)), _ordered((b, c)), _ordered((c, a))]
