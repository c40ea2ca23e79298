"""Pairing of rows with columns at the least cost."""

from __future__ import annotations

import numpy as np


def assign(costs: np.ndarray, limit: float) -> np.ndarray:
    """Pairs of a row and a column, each in one pair at most, none dearer than a limit.

    The sum of what each pair costs less than the limit is greatest. Shortest augmenting paths
    (Kuhn 1955, Munkres 1957; with potentials, as Jonker and Volgenant 1987): O(rows^2 columns).

    Args:
        costs: [N, M].
        limit: a pair may cost this much.

    Returns:
        int64 [K, 2], by row.
    """
    costs = np.asarray(costs, np.float64)
    possible = costs <= limit
    rows, columns = np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))
    saved = np.minimum(costs - limit, 0)[np.ix_(rows, columns)]
    turned = len(rows) > len(columns)
    pairs = _least_sum(saved.T if turned else saved)
    pairs = pairs[:, ::-1] if turned else pairs
    pairs = np.stack([rows[pairs[:, 0]], columns[pairs[:, 1]]], axis=1)
    pairs = pairs[possible[pairs[:, 0], pairs[:, 1]]]
    return pairs[np.argsort(pairs[:, 0])]


def _least_sum(costs: np.ndarray) -> np.ndarray:
    """A column for each row, [N, 2]; there are no fewer columns than rows."""
    count, width = costs.shape
    of_rows, of_columns = np.zeros(count), np.zeros(width + 1)
    row_of = np.full(width + 1, -1)  # the last column stands for "none yet"
    for row in range(count):
        column, row_of[width] = width, row
        least, before = np.full(width, np.inf), np.full(width, width)
        on_path = np.zeros(width + 1, bool)
        while row_of[column] >= 0:
            on_path[column] = True
            here = row_of[column]
            reduced = costs[here] - of_rows[here] - of_columns[:width]
            better = ~on_path[:width] & (reduced < least)
            least[better], before[better] = reduced[better], column
            column = int(np.argmin(np.where(on_path[:width], np.inf, least)))
            step = least[column]
            of_rows[row_of[on_path]] += step
            of_columns[on_path] -= step
            least[~on_path[:width]] -= step
        while column != width:
            row_of[column] = row_of[before[column]]
            column = before[column]
    taken = np.flatnonzero(row_of[:width] >= 0)
    return np.stack([row_of[taken], taken], axis=1)
