"""The detector's network: backbone, pyramid, context modules and heads as one functional model."""

from __future__ import annotations

import keras
from keras import layers

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.layers.context_module import context_module
from retinaface_tf.layers.feature_pyramid import feature_pyramid
from retinaface_tf.layers.heads import prediction_heads
from retinaface_tf.models.backbones import build_backbone


@keras.saving.register_keras_serializable(package="retinaface_tf")
class RetinaFaceNetwork(keras.Model):
    """Functional model that carries its `config`, so a `.keras` file rebuilds itself.

    Input: RGB pictures [B, H, W, 3] in 0..255, any number type, any batch and size.
    Outputs, for N = `geometry.anchors.count_anchors` anchors:
        "class_logits" [B, N, 2] background and face, before softmax.
        "box_deltas" [B, N, 4] and "landmark_deltas" [B, N, 10]: codes of `geometry.coding`.
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
        super().__init__(inputs=image, outputs=_connect(config, image), name=name, **kwargs)
        self.config = config

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


def _connect(config: RetinaFaceConfig, image: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    x = layers.Rescaling(1.0, offset=[-m for m in config.pixel_mean], name="normalize")(image)
    indices = [level.index for level in config.levels]
    backbone = build_backbone(config.backbone, x, config.negative_slope)
    pyramid = feature_pyramid(
        {index: backbone[index] for index in indices}, config.channels, config.negative_slope
    )
    contexts = {
        index: context_module(x, config.channels, config.negative_slope, name=f"p{index}_context")
        for index, x in pyramid.items()
    }
    heads = prediction_heads(
        contexts,
        {level.index: len(level.anchor_sizes) for level in config.levels},
        shared=config.shared_heads,
    )
    return {
        "class_logits": heads["class"],
        "box_deltas": heads["box"],
        "landmark_deltas": heads["landmark"],
    }
