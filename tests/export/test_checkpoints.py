"""Every public checkpoint, and a pyramid of four levels with shared heads, through the exports."""

import numpy as np
import pytest

from retinaface_tf.config import PyramidLevel, RetinaFaceConfig
from retinaface_tf.export.tflite import export_tflite
from retinaface_tf.inference.runtimes.keras import KerasRuntime
from retinaface_tf.inference.runtimes.litert import LiteRTRuntime

CHECKPOINTS = [
    "m2man_Pytorch_Retinaface/mobilenet0.25_epoch_245.pth",
    "m2man_Pytorch_Retinaface/mobilenet0.25_size_320.pth",
    "m2man_Pytorch_Retinaface/mobilenet0.25_Final.pth",
    "cunjian_pytorch_face_landmark/mobilenet0.25_Final.pth",
    "hukkelas_DSFD-Pytorch-Inference/RetinaFace_mobilenet025.pth",
    "sglee487_Pytorch_Retinaface/mobilenet0.25_Final.pth",
    "biubug6_Face-Detector-1MB-with-landmark/mobilenet0.25_Final.pth",
]


def differences(network, path, images):
    export_tflite(network, path, size=images.shape[1:3])
    ours, theirs = LiteRTRuntime(path)(images), KerasRuntime(network)(images)
    assert all(np.isfinite(values).all() for values in ours)
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs))


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_public_checkpoints_agree(data, checkpoint, tmp_path, astronaut):
    from retinaface_tf.weights.convert.convert import convert_weights

    network = convert_weights(data / "weights" / checkpoint, RetinaFaceConfig())
    assert differences(network, tmp_path / "x.tflite", astronaut[None, :256, 64:320]) < 1e-4


@pytest.mark.slow
def test_four_levels_with_shared_heads_agree(tmp_path, astronaut):
    from retinaface_tf.models import build_retinaface

    levels = tuple(
        PyramidLevel(stride=stride, anchor_sizes=[4 * stride * 2 ** (k / 3) for k in range(3)])
        for stride in (4, 8, 16, 32)
    )
    network = build_retinaface(RetinaFaceConfig(levels=levels, shared_heads=True, channels=32))
    assert differences(network, tmp_path / "x.tflite", astronaut[None, :128, :192]) < 1e-4
