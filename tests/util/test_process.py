"""Memory of the C library: kept for what comes next, given back when asked."""

import platform
import subprocess
import sys

import pytest

from retinaface_tf.util.process import child_environment

CHANGES_OF_MEMORY = """
import ctypes, re
from pathlib import Path
from retinaface_tf.util.process import give_memory_back, keep_freed_memory

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

c = ctypes.CDLL(None)
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
keep_freed_memory()
before = resident()
blocks = [c.malloc(1 << 20) for _ in range(100)]
for block in blocks:
    ctypes.memset(block, 1, 1 << 20)
for block in blocks:
    c.free(block)
kept = resident()
give_memory_back()
print(kept - before, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc")
def test_freed_memory_is_kept_until_it_is_given_back():
    done = subprocess.run(
        [sys.executable, "-c", CHANGES_OF_MEMORY],
        check=True, capture_output=True, text=True, env=child_environment(),
    )  # fmt: skip
    kept, left = map(int, done.stdout.split())
    assert kept >= 95 and left <= 5
