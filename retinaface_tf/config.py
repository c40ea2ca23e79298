"""Typed, frozen descriptions: a network (shape, anchors, decoding), and a detector's settings with their defaults."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypedDict, Unpack

from retinaface_tf.errors import ConfigError
from retinaface_tf.util.options import check_range, from_dict, refuse_unknown

# "-paper": the light network's 7x7 stem of stride 4 (1905.00641, section 4.5). "resnet50" alone has
# torchvision's stride on the 3x3 convolutions, for public checkpoints; "-v1" the original one on the
# 1x1 convolutions (He et al. 2016), which keras.applications has ImageNet weights for.
BACKBONES = (
    *("mobilenet0.25", "mobilenet0.5", "mobilenet1.0", "mobilenet0.25-paper", "mobilenetv2"),
    *("resnet18", "resnet34", "resnet50", "resnet50-v1", "resnet101-v1", "resnet152-v1"),
    *("yunet", "yunet-dense"),
)

# Mean pixel of the public networks, RGB order, 0..255 (their code says BGR 104, 117, 123).
IMAGENET_MEAN_RGB = (123.0, 117.0, 104.0)


@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """What images the authors of public weights give their network; ours takes RGB in 0..255.

    The mean that they subtract is `RetinaFaceConfig.pixel_mean`.

    Attributes:
        order: of the colours, "BGR" or "RGB".
        deviation: what the image in 0..255 is divided by, in RGB order.
    """

    order: str = "BGR"
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)


BGR = ImageFormat()
# ImageNet's mean and deviation as torchvision and albumentations have them, in 0..255.
TORCHVISION_MEAN = (123.675, 116.28, 103.53)
RGB_TORCHVISION = ImageFormat(order="RGB", deviation=(58.395, 57.12, 57.375))


@dataclass(frozen=True, kw_only=True)
class PyramidLevel:
    """One level of the feature pyramid and the square anchors tiled over its cells.

    Attributes:
        stride: pixels of the input image between neighbouring cells, a power of two.
        anchor_sizes: side lengths in input pixels; one anchor a cell for each.
    """

    stride: int
    anchor_sizes: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "anchor_sizes", tuple(float(s) for s in self.anchor_sizes))
        if self.stride < 2 or self.stride & (self.stride - 1):
            raise ConfigError(f"Level stride {self.stride} must be a power of two, at least 2.")
        if not 1 <= len(self.anchor_sizes) <= 64 or min(self.anchor_sizes) <= 0:
            raise ConfigError(
                f"Level with stride {self.stride} has {len(self.anchor_sizes)} anchor sizes from "
                f"{min(self.anchor_sizes, default=None)}; give 1 to 64 positive sizes."
            )

    @property
    def index(self) -> int:
        """The level's number in the papers: stride 8 is level 3 (P3)."""
        return self.stride.bit_length() - 1


# The public three-level table (insightface "RAC_SSH", kept by its descendants).
PUBLIC_LEVELS = (
    PyramidLevel(stride=8, anchor_sizes=(16, 32)),
    PyramidLevel(stride=16, anchor_sizes=(64, 128)),
    PyramidLevel(stride=32, anchor_sizes=(256, 512)),
)

# The papers' scales: 16 to 406 pixels in steps of 2^(1/3), three on each of P2..P6.
PAPER_SCALES = tuple(16 * 2 ** (k / 3) for k in range(15))
PAPER_LEVELS = tuple(
    PyramidLevel(stride=4 << n, anchor_sizes=PAPER_SCALES[3 * n : 3 * n + 3]) for n in range(5)
)
# The same fifteen scales on the three levels of the light network.
DENSE_LEVELS = tuple(
    PyramidLevel(stride=8 << n, anchor_sizes=PAPER_SCALES[5 * n : 5 * n + 5]) for n in range(3)
)


# Most of each; see `DenseConfig`.
_DENSE_LIMITS = {"vertices": 2**18, "grid": 9, "reduced": 256, "rank hidden": 1024}


@dataclass(frozen=True, kw_only=True)
class DenseConfig:
    """The dense branch of CVPR 2020: how a detection's vertices come out of the feature maps.

    The head runs on gathered features, of positives in training and of kept faces in inference: at
    every anchor its output would be 1.35 GB for a 640x640 image with 102,300 anchors.

    Attributes:
        vertices: number of vertices; 1,103 is the topology in `retinaface_tf.mesh`.
        frame: the coordinate frame of x, y and z. "anchor" is the paper's: deltas as those of
            landmarks, z by the anchor's size. "face" is the square round the decoded box, turned to
            the decoded five points; the head is given these and predicts how the vertices differ
            from a mean face posed by them.
        grid: places along each side at which features are sampled; 1 is the anchor's own cell, with
            which the head is a 1x1 convolution.
        extent: side of that grid in sides of the frame.
        finer: sample this many pyramid levels below the anchor's own, where there are such levels.
        reduced: channels of the first 1x1 convolution; each anchor of a cell has its own channels.
        hidden: widths of fully connected layers between.
        rank: length of the code of a face, from which the last, linear layer makes the vertices.
    """

    vertices: int = 1103
    frame: str = "anchor"
    grid: int = 1
    extent: float = 1.2
    finer: int = 0
    reduced: int = 64
    hidden: tuple[int, ...] = ()
    rank: int = 96

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(int(width) for width in self.hidden))
        if self.frame not in ("anchor", "face"):
            raise ConfigError(f"dense.frame={self.frame!r} must be 'anchor' or 'face'.")
        # Four times what any network has: a file must not ask for more memory than there is.
        for names, most in _DENSE_LIMITS.items():
            check_range(self, "dense", names, 1, most)
        if self.finer < 0 or self.extent <= 0 or len(self.hidden) > 4:
            raise ConfigError(
                "dense.finer and dense.extent must be positive, dense.hidden at most four widths."
            )
        if self.vertices * self.rank > 2**23:
            raise ConfigError(
                f"dense.vertices * dense.rank is {self.vertices * self.rank:,}; it may be {2**23:,}."
            )


@dataclass(frozen=True, kw_only=True)
class RetinaFaceConfig:
    """Architecture of a RetinaFace network.

    Attributes:
        backbone: one of `BACKBONES`, or "module:name" of your own, see `models.register_backbone`.
        levels: pyramid levels from fine to coarse.
        channels: width of the pyramid, the context modules and the heads' input.
        negative_slope: slope of the LeakyReLU in MobileNetV1 and YuNet backbones, pyramid and context
            modules; 0 is ReLU.
        neck_slope: that of pyramid and context modules where it is another; None for the same.
        shared_heads: one set of 1x1 heads for all levels (papers) instead of one a level (the
            public MobileNet weights).
        deformable: the 3x3 convolutions of pyramid and context modules are deformable (v2).
        separable: pyramid, context modules (one unit each) and heads are YuNet's, of
            depthwise-separable convolutions without laterals, so the backbone's maps must have
            `channels` channels themselves.
        cascade: two context modules and heads a level; the second one refines the boxes that the
            first one makes of the anchors.
        center_variance, size_variance: factors of the box and landmark deltas (SSD's variances).
        pixel_mean: mean pixel subtracted from the RGB input in 0..255.
        dense: the branch that gives each face a mesh of vertices; None for none.
    """

    backbone: str = "mobilenet0.25"
    levels: tuple[PyramidLevel, ...] = PUBLIC_LEVELS
    channels: int = 64
    negative_slope: float = 0.1
    neck_slope: float | None = None
    shared_heads: bool = False
    deformable: bool = False
    separable: bool = False
    cascade: bool = False
    center_variance: float = 0.1
    size_variance: float = 0.2
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN_RGB
    dense: DenseConfig | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        object.__setattr__(self, "pixel_mean", tuple(float(m) for m in self.pixel_mean))
        # Whether your own is registered, `models` asks: an exported network runs without it.
        if self.backbone not in BACKBONES and ":" not in self.backbone:
            raise ConfigError(
                f"Unknown backbone {self.backbone!r}; choose one of {', '.join(BACKBONES)}."
            )
        strides = [level.stride for level in self.levels]
        if not strides or any(b != 2 * a for a, b in zip(strides, strides[1:])):
            raise ConfigError(
                f"Pyramid strides {strides} must double from level to level, fine to coarse."
            )
        if strides[0] < 4 or strides[-1] > 64 or strides == [64]:
            raise ConfigError(
                f"Pyramid strides {strides} must lie from 4 to 64, and 64 needs 32 beside it."
            )
        if not 4 <= self.channels <= 1024 or self.channels % 4:
            raise ConfigError(f"channels={self.channels} must be a multiple of 4 from 4 to 1024.")
        if self.shared_heads and len({len(level.anchor_sizes) for level in self.levels}) > 1:
            raise ConfigError("Shared heads need the same number of anchors on every level.")
        if self.separable and (self.deformable or self.cascade or self.shared_heads):
            raise ConfigError(
                "separable=true has no deformable convolutions, cascade or shared heads."
            )
        check_range(self, "network", "negative_slope", 0)
        if self.neck_slope is not None:
            check_range(self, "network", "neck_slope", 0)
        if self.center_variance <= 0 or self.size_variance <= 0:
            raise ConfigError("Variances must be positive.")

    @property
    def pyramid_slope(self) -> float:
        """Slope of the LeakyReLU in pyramid and context modules."""
        return self.negative_slope if self.neck_slope is None else self.neck_slope

    @property
    def max_stride(self) -> int:
        """Stride of the coarsest level: image sides that are multiples of it waste no cell."""
        return self.levels[-1].stride

    @property
    def one_anchor_a_cell(self) -> bool:
        """Whether a cell has faces of all sizes, so that its anchor says where a face is and not how large."""
        return all(len(level.anchor_sizes) == 1 for level in self.levels)

    @property
    def dense_levels(self) -> tuple[PyramidLevel, ...]:
        """Levels whose features the dense branch samples, fine to coarse; none without it."""
        return self.levels[: max(1, len(self.levels) - self.dense.finer)] if self.dense else ()

    @property
    def dense_outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs with those levels' feature maps: "features_8", ..."""
        return tuple(f"features_{level.stride}" for level in self.dense_levels)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts: fit for JSON; "dense", "separable" and "neck_slope"
        only where there is one."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        for name in ("dense", "separable", "neck_slope"):
            if values[name] is None or values[name] is False:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RetinaFaceConfig:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: a key is unknown, or a value has the wrong type or is out of range.
        """
        return from_dict(cls, values, "network.")


# What runs a network; "auto" and "fastest" take what is there, see `weights.choose_file.choose_runtime`.
RuntimeName = Literal["auto", "fastest", "litert", "onnx", "keras", "openvino", "openvino-bf16"]
# Of the numbers in a packaged network's file.
Precision = Literal["float32", "int8"]

# How large an image is searched: see `inference.preprocess.target_size`.
Size = int | tuple[int, int] | Literal["original"] | None


# How close further looks at small faces go, and how much of them there may be: see `DetectionSettings`.
Zoom = int | Literal["auto", "off"]
Budget = int | str
MAX_ZOOM = 16


def _is_whole(value: Any, least: int, most: float = math.inf) -> bool:
    """Whether it is a whole number in this range; numpy's are numbers too."""
    return (
        isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most
    )


def check_size(size: Any, name: str | None = None) -> None:
    """Refuses what is no `Size`.

    Args:
        size: None, "original", a short edge in pixels, or a pair (short edge, longest side).
        name: what the message calls it.

    Raises:
        ConfigError: it is none of these, not positive, or the short edge is above the longest side.
    """
    name = name or f"size={size!r}"
    edges = size if isinstance(size, tuple | list) else (size, size)
    numbers = all(isinstance(edge, Integral) and not isinstance(edge, bool) for edge in edges)
    if size is None or (isinstance(size, str) and size == "original"):
        return
    if not numbers or len(edges) != 2 or min(edges) < 1:
        raise ConfigError(
            f"{name} is not understood: give None, 'original', a short edge in pixels, or a pair "
            "(short edge, longest side)."
        )
    if edges[0] > edges[1]:
        raise ConfigError(
            f"{name} has a short edge of {edges[0]} pixels above the longest side, {edges[1]}; the "
            "short edge comes first."
        )


class SettingsChanges(TypedDict, total=False):
    """Any of `DetectionSettings` by keyword, as detectors take them."""

    threshold: float
    iou: float
    size: Size
    max_faces: int | None
    large_faces: bool
    zoom: Zoom
    budget: Budget


@dataclass(frozen=True, kw_only=True)
class DetectionSettings:
    """The settings of a detection, from the command line down to suppression.

    Attributes:
        threshold: least score of a face, 0..1.
        iou: overlap above which the worse of two detections is dropped, 0..1.
        size: at which images are searched, see `inference.preprocess.target_size`.
        max_faces: keep only this many of an image, the best ones; None keeps all.
        large_faces: also search a copy a quarter as wide where that costs under 10 %, for faces
            beyond the network's largest anchor; a model server decides for itself.
        zoom: look closer, in tiles, where faces may be too small to be seen well: up to so many times as
            close as the image was searched (2 to 16); "auto" for twice and for what pixels the photo has
            beyond that, up to 4 times; "off" for never. A model server, and a search in several views, do
            without.
        budget: of closer looks at one image: most tiles, or the time that they may take, such as "50ms",
            reckoned by the first look's (so answers depend on the machine).

    Raises:
        ConfigError: a value is out of range.
    """

    threshold: float = 0.5
    iou: float = 0.4
    size: Size = None
    max_faces: int | None = None
    large_faces: bool = True
    zoom: Zoom = "off"
    budget: Budget = 32

    def __post_init__(self) -> None:
        for name in ("threshold", "iou"):
            value = getattr(self, name)
            # Numbers of numpy are numbers too.
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
                raise ConfigError(f"{name}={value!r} must be a number from 0 to 1.")
        check_size(self.size)
        if not isinstance(self.large_faces, bool):
            raise ConfigError(f"large_faces={self.large_faces!r} must be True or False.")
        if self.zoom not in ("auto", "off") and not _is_whole(self.zoom, 2, MAX_ZOOM):
            raise ConfigError(
                f"zoom={self.zoom!r} must be 'auto', 'off' or a whole number from 2 to {MAX_ZOOM}."
            )
        if self.budget_seconds is None and not _is_whole(self.budget, 0):
            raise ConfigError(
                f"budget={self.budget!r} must be a number of tiles, or milliseconds such as '50ms'."
            )
        count = self.max_faces
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ConfigError(f"max_faces={count!r} must be a whole number, at least 1, or None.")

    @property
    def budget_seconds(self) -> float | None:
        """The budget where it is a time; None where it is tiles."""
        text = self.budget
        if not isinstance(text, str) or not re.fullmatch("[0-9]{1,9}ms", text):
            return None
        return int(text[:-2]) / 1000

    def replace(self, **changes: Unpack[SettingsChanges]) -> DetectionSettings:
        """A copy with other values.

        Raises:
            ConfigError: there is no such setting, or a value is out of range.
        """
        refuse_unknown(type(self), changes, "setting")
        return dataclasses.replace(self, **changes)


DEFAULT_SETTINGS = DetectionSettings()
