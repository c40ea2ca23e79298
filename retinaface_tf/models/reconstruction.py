"""The arXiv paper's dense branch: 144 numbers a face, decoded, posed, lit and drawn.

1905.00641, section 3.2: a 1x1 convolution predicts P_ST (128, shape and texture), P_cam (7) and
P_ill (9) for each anchor; the mesh decoder and the renderer turn them into a picture, which L_pixel
compares with the anchor's crop. Detection needs none of it: the branch reads the detector's features
and gives nothing back, so it is left out by not building it.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import layers, ops

from retinaface_tf.losses.photometric import pixel_loss
from retinaface_tf.mesh.camera import Camera, split_camera
from retinaface_tf.mesh.lighting import Lighting, split_lighting
from retinaface_tf.mesh.renderer import MeshRenderer, Rendering
from retinaface_tf.models.mesh_decoder import MeshDecoder

CAMERA_NUMBERS, LIGHTING_NUMBERS = 7, 9

# What zeros mean: a face looking at the camera that fills its box, five face sizes away, under a
# light above the camera. Heads of turned faces turn about a point between the ears, not the nose.
FACE_CENTER = (0.0, 0.0, 0.3)
_DISTANCE, _FOCAL = 5.0, 8.5
_LIGHT = (0.0, -2.0, 1.0)
_SHIFT, _TURN, _ZOOM, _LIGHT_SHIFT, _BRIGHTNESS = 0.2, 0.5, 0.2, 1.0, 0.2
_COLOR, _AMBIENT = 0.5, 0.5


class FaceParameters(NamedTuple):
    """What the branch says of each of N faces.

    Attributes:
        code: [N, 128] shape and texture, for the decoder.
        camera: 7 numbers.
        lighting: 9 numbers.
    """

    code: object
    camera: Camera
    lighting: Lighting


def interpret(numbers) -> FaceParameters:
    """The head's raw numbers as a code, a camera and a light.

    Args:
        numbers: [N, code + 16], around 0: code, camera (position, pose, focal length), lighting
            (position, colour, ambient). Each has a unit of its own; distance and focal length are
            exponentials, so they stay positive.
    """
    width = numbers.shape[-1] - CAMERA_NUMBERS - LIGHTING_NUMBERS
    code, camera, light = ops.split(numbers, [width, width + CAMERA_NUMBERS], axis=-1)
    raw, raw_light = split_camera(camera), split_lighting(light)
    distance = _DISTANCE * ops.exp(_ZOOM * raw.position[:, 2:])
    position = ops.concatenate([_SHIFT * raw.position[:, :2], distance], axis=-1)
    lighting = Lighting(
        ops.convert_to_tensor(_LIGHT, numbers.dtype) + _LIGHT_SHIFT * raw_light.position,
        _COLOR + _BRIGHTNESS * raw_light.color,
        _AMBIENT + _BRIGHTNESS * raw_light.ambient,
    )
    focal = _FOCAL * ops.exp(_ZOOM * raw.focal)
    return FaceParameters(code, Camera(position, _TURN * raw.pose, focal), lighting)


@keras.saving.register_keras_serializable(package="retinaface_tf")
class ReconstructionHead(layers.Layer):
    """The 1x1 convolution that predicts a face's numbers, on gathered cells.

    Args:
        code: numbers of the decoder's code.

    Input: features [N, C] of the cells of N anchors; output [N, code + 16] for `interpret`. Fresh,
    it answers nearly zero: the mean face, looking ahead.
    """

    def __init__(self, code: int = 128, **kwargs):
        super().__init__(**kwargs)
        self.code = code
        self.linear = layers.Dense(
            code + CAMERA_NUMBERS + LIGHTING_NUMBERS,
            kernel_initializer=keras.initializers.RandomNormal(stddev=1e-3),
            name="numbers",
        )

    def build(self, input_shape):
        self.linear.build(input_shape)

    def call(self, features):
        return self.linear(features)

    def get_config(self):
        return {**super().get_config(), "code": self.code}


class FaceReconstruction:
    """Decoder and renderer: numbers to meshes, pictures and L_pixel.

    Args:
        decoder: pre-trained, usually not trained further.
        size: side in pixels of the rendered crops.
    """

    def __init__(self, decoder: MeshDecoder, size: int = 64):
        self.decoder = decoder
        self.renderer = MeshRenderer(decoder.triangles, len(decoder.template), size)

    def mesh(self, parameters: FaceParameters, training: bool = False):
        """Vertices [N, V, 3] around `FACE_CENTER`, and albedo [N, V, 3]."""
        decoded = self.decoder(parameters.code, training=training)
        center = ops.convert_to_tensor(FACE_CENTER, decoded.dtype)
        return decoded[..., :3] - center, decoded[..., 3:]

    def render(self, parameters: FaceParameters, background=None) -> Rendering:
        """The faces in their crops; `background` is [N, S, S, 3], None is black."""
        vertices, albedo = self.mesh(parameters)
        return self.renderer(vertices, albedo, parameters.camera, parameters.lighting, background)

    def loss(self, parameters: FaceParameters, crops, code_weight: float = 0.0):
        """L_pixel of each face [N], over what the mesh covers.

        Args:
            parameters: of N faces.
            crops: [N, S, S, 3] RGB, 0..1.
            code_weight: adds so much of the code's mean square: codes of real faces are of unit
                variance, and one crop cannot tell dark skin from a dark light.
        """
        rendering = self.render(parameters, crops)
        pixels = pixel_loss(rendering.image, crops, rendering.coverage)
        return pixels + code_weight * ops.mean(ops.square(parameters.code), axis=-1)
