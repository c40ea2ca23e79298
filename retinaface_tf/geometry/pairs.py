"""Greedy one-to-one matching: which box of one set is which of another."""

from __future__ import annotations

import numpy as np


def match_pairs(iou: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs rows with columns in falling order of overlap; each is in one pair at most.

    Args:
        iou: [N, M], such as `boxes.pairwise_iou`.
        least: pairs below it are none.

    Returns:
        rows, columns: int64 [K] each, the best pair first; of equal ones the lower row, then the
        lower column.
    """
    rows, columns = np.nonzero(iou >= least)
    pairs, used_rows, used_columns = [], set(), set()
    for place in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if row not in used_rows and column not in used_columns:
            pairs.append((row, column))
            used_rows.add(row)
            used_columns.add(column)
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    return rows, columns
