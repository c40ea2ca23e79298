"""Descent through the renderer finds the pose and the light a picture was made with."""

import pytest

from benchmarks.recover_pose_and_light import recover


@pytest.mark.slow
def test_pose_and_light_come_back_from_a_picture():
    errors = {name: (before, after) for name, before, after in recover(2, 48, 150, 0)["errors"]}
    assert errors["pose, degrees"][0] > 10
    for name, (before, after) in errors.items():
        assert after < 0.15 * before, name
    assert errors["pose, degrees"][1] < 1
