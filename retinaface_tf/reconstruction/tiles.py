"""Items that cover different numbers of cells, processed in tiles: arrays of one fixed size.

A triangle's bounding box has from none to thousands of pixels. The pixels of all boxes are numbered
one after another and processed in tiles of a fixed length: memory is that of one tile, and pixels
outside every box cost nothing.
"""

from __future__ import annotations

from keras import ops

# Samples in a tile: a few arrays of this length stay in the processor's cache.
PIECE = 1 << 16


def nearest_of_cells(counts, sample, cells, piece: int = PIECE):
    """For each cell the item that is nearest there.

    Args:
        counts: int32 [M], how many samples each item has.
        sample: function (item int32 [P], offset int32 [P], live bool [P]) -> (cell int32 [P],
            nearness float [P], good bool [P]); offset is the sample's number within its item.
            Samples that are not live are padding.
        cells: number of cells, a number or a scalar tensor.
        piece: samples in a tile.

    Returns:
        nearest: [cells] float, the greatest nearness; the type's least number where there is none.
        item: int32 [cells], -1 where there is none; of equal ones the last.
    """
    ends = ops.cumsum(counts)
    total = ends[-1]
    starts = ends - counts
    last = ops.shape(counts)[0] - 1

    def body(first, nearest, item):
        number = first + ops.arange(piece, dtype="int32")
        live = number < total
        owner = ops.cast(ops.searchsorted(ends, number, side="right"), "int32")
        owner = ops.minimum(owner, last)
        cell, nearness, good = sample(owner, number - ops.take(starts, owner), live)
        good = ops.logical_and(good, live)
        # What is not good goes to one cell more than there are.
        cell = ops.where(good, cell, cells)
        best = ops.segment_max(nearness, cell, num_segments=cells + 1)
        winner = ops.where(ops.logical_and(good, nearness >= ops.take(best, cell)), owner, -1)
        winner = ops.segment_max(winner, cell, num_segments=cells + 1)[:cells]
        best = best[:cells]
        closer = ops.logical_and(winner >= 0, best >= nearest)
        return first + piece, ops.where(closer, best, nearest), ops.where(closer, winner, item)

    dtype = sample(starts[:1] * 0, starts[:1] * 0, starts[:1] > -1)[1].dtype
    # What segment_max gives to empty cells differs between backends: compared, never used.
    state = (
        ops.zeros((), "int32"),
        ops.full((cells,), -1e30, dtype),
        ops.full((cells,), -1, "int32"),
    )
    _, nearest, item = ops.while_loop(lambda first, *_: first < total, body, state)
    return nearest, item
