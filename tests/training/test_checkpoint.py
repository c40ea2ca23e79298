"""Checkpoints: what is written comes back, and damage costs one checkpoint, not the run."""

import numpy as np
import pytest

from retinaface_tf.errors import DataError
from retinaface_tf.training.checkpoint import Checkpoints


def test_newest_whole_checkpoint_is_taken(tmp_path, rng):
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.load_newest() is None
    values = {"network/0000-a.kernel": rng.normal(size=(3, 4)).astype(np.float32)}
    for step in (5, 10, 15):
        checkpoints.save(step, values, {"step": step})
    assert [p.name for p in checkpoints.paths()] == ["step-000000015.npz", "step-000000010.npz"]
    found, state, damaged = checkpoints.load_newest()
    np.testing.assert_array_equal(found["network/0000-a.kernel"], values["network/0000-a.kernel"])
    assert state == {"step": 15} and not damaged

    newest = checkpoints.paths()[0]
    newest.write_bytes(newest.read_bytes()[:-40])
    # What a process that died while writing leaves behind.
    (tmp_path / "c" / ".step-000000020.npz.77").write_bytes(b"half")
    _, state, damaged = checkpoints.load_newest()
    assert state == {"step": 10} and damaged == [newest]
    older = checkpoints.paths()[1]
    older.write_bytes(b"")
    with pytest.raises(DataError, match="step-000000015"):
        checkpoints.load_newest()
