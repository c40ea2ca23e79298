"""Files made wrong: cut, flipped, repeated, or with numbers in them made huge."""

from __future__ import annotations

import numpy as np

_HUGE = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80", b"\xff\xff")
_WORDS = (b"-1", b"1e400", b"nan", b"99999999999999999999", b"[[[[", b'"', b"\xef\xbb\xbf", b"\0")


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four random changes of a file's bytes."""
    for _ in range(int(rng.integers(1, 5))):
        content = _CHANGES[int(rng.integers(len(_CHANGES)))](content, rng)
    return content


def _place(content: bytes, rng) -> int:
    """Mostly in the header, where the numbers are that a reader trusts."""
    reach = len(content) if rng.random() < 0.4 else min(len(content), 400)
    return int(rng.integers(reach + 1))


def _cut(content, rng):
    return content[: _place(content, rng)]


def _flip(content, rng):
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 20))):
        if changed:
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _overwrite(content, rng):
    place, number = _place(content, rng), _HUGE[int(rng.integers(len(_HUGE)))]
    return content[:place] + number + content[place + len(number) :]


def _insert(content, rng):
    place, word = _place(content, rng), _WORDS[int(rng.integers(len(_WORDS)))]
    return content[:place] + word + content[place:]


def _repeat(content, rng):
    start, end = sorted((_place(content, rng), _place(content, rng)))
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def _drop(content, rng):
    start, end = sorted((_place(content, rng), _place(content, rng)))
    return content[:start] + content[end:]


def _noise(content, rng):
    start, length = _place(content, rng), int(rng.integers(1, 64))
    return content[:start] + rng.bytes(length) + content[start + length :]


_CHANGES = (_cut, _flip, _flip, _overwrite, _overwrite, _insert, _repeat, _drop, _noise)
