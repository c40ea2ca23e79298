"""The detector's network: backbone, pyramid, context modules and heads as one functional model."""

from __future__ import annotations

import dataclasses
import math

import keras
from keras import layers, ops

from retinaface_tf.config import DenseConfig, RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.box_coding import compose_box_deltas, compose_point_deltas
from retinaface_tf.layers.context_module import context_module
from retinaface_tf.layers.convolution import separable_bn
from retinaface_tf.layers.dense_head import DenseHead
from retinaface_tf.layers.feature_pyramid import feature_pyramid, separable_pyramid
from retinaface_tf.layers.heads import prediction_heads
from retinaface_tf.models.backbones import build_backbone


@keras.saving.register_keras_serializable(package="retinaface_tf")
class RetinaFaceNetwork(keras.Model):
    """Functional model that carries its `config`, so a `.keras` file rebuilds itself.

    Input: RGB images [B, H, W, 3] in 0..255, any number type, any batch and size.
    Outputs, for N = `geometry.anchors.count_anchors` anchors:
        "class_logits" [B, N, 2] background and face, before softmax.
        "box_deltas" [B, N, 4] and "landmark_deltas" [B, N, 10]: see `geometry.box_coding`.
    With `config.cascade` these are the second stage's, still deltas for the anchors, so they are
    read as ever; the first stage's are there for its loss:
        "first_class_logits" [B, N, 2] and "first_box_deltas" [B, N, 4].
    With `config.dense` there are feature maps "features_8" [B, H / 8, W / 8, C], ... of
    `config.dense_levels`, and the network's `dense_head` makes vertices of what is sampled from
    them at the faces that count (`layers.dense_frames`).
    """

    def __init__(
        self,
        config: RetinaFaceConfig | dict,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        name: str = "retinaface",
        **kwargs,
    ):
        if not isinstance(config, RetinaFaceConfig):
            config = RetinaFaceConfig.from_dict(config)
        image = keras.Input(input_shape, name="image")
        outputs, contexts = _connect(config, image)
        super().__init__(inputs=image, outputs=outputs, name=name, **kwargs)
        self.config = config
        self._contexts = list(contexts)
        self.dense_head = None
        if config.dense:
            slots = sum(len(level.anchor_sizes) for level in config.levels)
            self.dense_head = DenseHead(
                config.dense, slots, config.channels, config.center_variance, name="dense_head"
            )

    def with_features(self) -> keras.Model:
        """The same layers with the feature maps "features_4", ... of every level among the outputs.

        For what only training reads, such as the reconstruction branch.
        """
        names = [f"features_{level.stride}" for level in self.config.levels]
        features = dict(zip(names, self._contexts, strict=True))
        return keras.Model(self.inputs, {**self.output, **features}, name="with_features")

    def get_config(self):
        return {"config": self.config.to_dict(), "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def build_retinaface(
    config: RetinaFaceConfig | str = "mobilenet0.25",
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
) -> RetinaFaceNetwork:
    """A freshly initialised network.

    Args:
        config: the architecture, or the name of a preset that has one (see `list_presets`).
        input_shape: (H, W, 3); None for sides decided at run time.

    Raises:
        ConfigError: no preset has that name.
    """
    if isinstance(config, str):
        from retinaface_tf.presets import get_preset

        config = get_preset(config).config
    return RetinaFaceNetwork(config, input_shape)


def add_dense_branch(network: RetinaFaceNetwork, dense: DenseConfig) -> RetinaFaceNetwork:
    """The same network, weights copied, with a fresh dense branch beside the heads."""
    config = dataclasses.replace(network.config, dense=dense)
    extended = RetinaFaceNetwork(config, network.input_shape[1:])
    values = {weight.path: weight for weight in network.weights}
    for weight in extended.weights:
        if weight.path in values:
            weight.assign(values[weight.path])
    return extended


def _connect(config: RetinaFaceConfig, image: keras.KerasTensor):
    """The network's outputs by name, and its context modules' maps, fine to coarse."""
    x = layers.Rescaling(1.0, offset=[-m for m in config.pixel_mean], name="normalize")(image)
    indices = [level.index for level in config.levels]
    backbone = build_backbone(config.backbone, x, config.negative_slope)
    features = {index: backbone[index] for index in indices if index in backbone}
    pyramid = _pyramid(config, features, coarse_level=indices[-1] not in backbone)
    contexts = _contexts(config, pyramid)
    heads = _heads(config, contexts)
    outputs = {
        "class_logits": heads["class"],
        "box_deltas": heads["box"],
        "landmark_deltas": heads["landmark"],
    }
    if config.cascade:
        first = _contexts(config, pyramid, prefix="first_")
        first = _heads(config, first, heads=("class", "box"), prefix="first_")
        compose = ComposeDeltas(config.size_variance, name="compose_deltas")
        outputs["box_deltas"], outputs["landmark_deltas"] = compose(
            [first["box"], heads["box"], heads["landmark"]]
        )
        outputs["first_class_logits"] = first["class"]
        outputs["first_box_deltas"] = first["box"]
    for name, level in zip(config.dense_outputs, config.dense_levels):
        outputs[name] = contexts[level.index]
    return outputs, [contexts[index] for index in indices]


def _pyramid(config: RetinaFaceConfig, features: dict, coarse_level: bool) -> dict:
    """Maps of `config.channels` channels on every level."""
    if not config.separable:
        return feature_pyramid(
            features,
            config.channels,
            config.pyramid_slope,
            deformable=config.deformable,
            coarse_level=coarse_level,
        )
    widths = {x.shape[-1] for x in features.values()}
    if coarse_level or widths != {config.channels}:
        raise ConfigError(
            f"separable=true needs levels of at most stride 32 on which the backbone has "
            f"channels={config.channels} channels; {config.backbone} has {sorted(widths)}."
        )
    return separable_pyramid(features, config.channels, config.pyramid_slope)


def _contexts(config: RetinaFaceConfig, pyramid: dict, prefix: str = "") -> dict:
    """A context module, or one separable unit, on every level."""
    if config.separable:
        return {
            index: separable_bn(
                x,
                config.channels,
                negative_slope=config.pyramid_slope,
                name=f"p{index}_context",
            )
            for index, x in pyramid.items()
        }
    return {
        index: context_module(
            x,
            config.channels,
            config.pyramid_slope,
            name=f"{prefix}p{index}_context",
            deformable=config.deformable,
        )
        for index, x in pyramid.items()
    }


def _heads(config: RetinaFaceConfig, contexts: dict, prefix: str = "", **options) -> dict:
    """Prediction heads on every level."""
    return prediction_heads(
        contexts,
        {level.index: len(level.anchor_sizes) for level in config.levels},
        shared=config.shared_heads,
        prefix=prefix,
        separable=config.separable,
        **options,
    )


# A first stage that makes an anchor wider than this many times is cut: e^x must stay a number.
_MAX_GROWTH = 16.0


@keras.saving.register_keras_serializable(package="retinaface_tf", name="ComposeCodes")
class ComposeDeltas(layers.Layer):
    """The cascade's second stage's deltas for the refined boxes, expressed for the anchors.

    Inputs: the first stage's box deltas [B, N, 4], the second's box deltas [B, N, 4] and landmark
    deltas [B, N, 10]. Outputs: box and landmark deltas for the anchors. The refined boxes are
    constants to the second stage: its loss does not teach the first.
    """

    def __init__(self, size_variance: float, **kwargs):
        super().__init__(**kwargs)
        self.size_variance = size_variance

    def call(self, inputs):
        first, box, landmark = inputs
        first = ops.stop_gradient(first)
        limit = math.log(_MAX_GROWTH) / self.size_variance
        first = ops.concatenate([first[..., :2], ops.clip(first[..., 2:], -limit, limit)], axis=-1)
        return (
            compose_box_deltas(first, box, self.size_variance),
            compose_point_deltas(first, landmark, self.size_variance),
        )

    def get_config(self):
        return {**super().get_config(), "size_variance": self.size_variance}
