"""Picks the reader that fits a file of another program's weights, and fills a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.config import BGR, ImageFormat, RetinaFaceConfig
from retinaface_tf.util.bounds import read_whole

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork


def convert_weights(
    source: str | Path, config: RetinaFaceConfig, images: ImageFormat = BGR
) -> RetinaFaceNetwork:
    """A network with the weights of a file, whose format is seen in its contents.

    Args:
        source: PyTorch `.pth` in the public layout, ONNX with folded batch norm, YuNet's ONNX for
            a network like preset "yunet", our own `.weights.h5`, or `.keras`.
        config: the architecture that was trained.
        images: that the other program gives its network; `Preset.trained_on`.

    Raises:
        WeightsError: the file is missing, damaged or of another network.
    """
    from retinaface_tf.models import build_retinaface
    from retinaface_tf.weights.convert.onnx_graph import fill_from_onnx
    from retinaface_tf.weights.convert.state_dict import fill_from_state_dict
    from retinaface_tf.weights.convert.torch_pickle import is_torch_file, read_torch_file
    from retinaface_tf.weights.convert.yunet import fill_from_yunet
    from retinaface_tf.weights.load import load_weights, own_format, require_file

    source = require_file(source)
    if own_format(source):
        return load_weights(source, config)
    if is_torch_file(source):
        tensors = read_torch_file(source)
        network = build_retinaface(config)
        fill_from_state_dict(network, tensors, str(source), images)
        return network
    content = read_whole(source)
    network = build_retinaface(config)
    fill = fill_from_yunet if config.separable else fill_from_onnx
    fill(network, content, str(source), images)
    return network
