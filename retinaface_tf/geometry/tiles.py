"""Parts of an image of one size: a grid over all of it, or as few as cover some boxes; numpy."""

import numpy as np

# A box this near to an edge that cuts through the image, in shares of its size, is taken for cut itself.
CUT_MARGIN = 0.05


def grid(size: tuple[int, int], tile: tuple[int, int], overlap: float) -> np.ndarray:
    """Parts that together cover an image, row by row; the last ones end at its edge.

    Args:
        size: (height, width) of the image.
        tile: (height, width) of a part; cut to the image's where that is smaller.
        overlap: least share of a part that its neighbour has too.

    Returns:
        int64 [T, 4] corners.
    """
    rows, columns = (_starts(*sides, overlap) for sides in zip(size, tile))
    corners = [(x, y) for y in rows for x in columns]
    return _with_ends(np.array(corners), size, tile)


def cover(
    boxes: np.ndarray,
    size: tuple[int, int],
    tile: tuple[int, int],
    margin: float,
    limit: int,
) -> np.ndarray:
    """Parts of an image that have boxes in them, greedily: each takes the most that are left.

    Args:
        boxes: float [N, 4] corners inside the image.
        size: (height, width) of the image.
        tile: (height, width) of a part; cut to the image's where that is smaller.
        margin: a box is in a part that has it and so many of its sides around it, as far as the
            image goes; boxes that are too large for that are in none.
        limit: most parts.

    Returns:
        int64 [T, 4] corners, the one with the most boxes first; T is at most `limit`.
    """
    around = margin * np.tile(boxes[:, 2:] - boxes[:, :2], 2) * [-1, -1, 1, 1]
    wanted = np.clip(boxes + around, 0, np.tile(size[::-1], 2))
    wanted = np.concatenate([np.floor(wanted[:, :2]), np.ceil(wanted[:, 2:])], axis=1)
    sides = np.array(tile[::-1])
    fits = (wanted[:, 2:] - wanted[:, :2] <= sides).all(axis=1)
    wanted = wanted[fits]
    # Some best part has boxes at two of its edges.
    ends = wanted - [0, 0, *sides]
    corners = np.concatenate([ends[:, [x, y]] for x in (0, 2) for y in (1, 3)])
    gains = _inside(wanted, _with_ends(corners, size, tile)).astype(np.float32)
    left, chosen = np.ones(len(wanted), np.float32), []
    while len(chosen) < limit and left.any():
        new = wanted[(gains[int((gains @ left).argmax())] > 0) & (left > 0)]
        # What it was chosen for is in its middle.
        middle = (new[:, :2].min(axis=0) + new[:, 2:].max(axis=0)) / 2
        chosen.append(_with_ends(np.floor(middle - sides / 2), size, tile).astype(np.int64))
        left[_inside(wanted, chosen[-1])] = 0
    return np.stack(chosen) if chosen else np.zeros((0, 4), np.int64)


def inner_edges(part: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool [4]: the edges of a part (corners [4]) that cut through an image of (height, width)."""
    return np.array([part[0] > 0, part[1] > 0, part[2] < size[1], part[3] < size[0]])


def touches(boxes: np.ndarray, part: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """bool [N]: boxes [N, 4] found in a part (corners [4]) that end at one of its inner edges."""
    near = np.abs(boxes - part) < CUT_MARGIN * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return (near & inner).any(axis=1)


def _inside(boxes: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """bool [..., N]: which boxes [N, 4] lie in a part [..., 4]."""
    parts = parts[..., None, :]
    return ((parts[..., :2] <= boxes[:, :2]) & (parts[..., 2:] >= boxes[:, 2:])).all(axis=-1)


def _with_ends(corners: np.ndarray, size: tuple[int, int], tile: tuple[int, int]) -> np.ndarray:
    """Upper left corners [..., 2] moved so that parts of one size lie in the image: [..., 4]."""
    sides = np.minimum(tile, size)[::-1]
    corners = np.clip(corners, 0, np.array(size[::-1]) - sides)
    return np.concatenate([corners, corners + sides], axis=-1)


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / max(side * (1 - overlap), 1)))
    return [round(start) for start in np.linspace(0, length - side, count).tolist()]
