"""The arXiv paper's dense branch: 144 numbers a face, decoded, posed, lit and drawn.

1905.00641, section 3.2: a 1x1 convolution predicts P_ST (128, shape and texture), P_cam (7) and
P_ill (9) for each anchor; the mesh decoder and the renderer turn them into an image, which L_pixel
compares with the anchor's crop. The branch reads the detector's features and gives nothing back, so a
detector without it detects the same.
"""

import dataclasses
from typing import NamedTuple

import keras
from keras import layers, ops

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.layers.dense_frames import (
    anchor_frames,
    sample_features,
    sampling_table,
    slots_of_anchors,
    stacked_cells,
)
from retinaface_tf.mesh.topology import five_of_vertices
from retinaface_tf.reconstruction.camera import Camera, posed, project, split_camera
from retinaface_tf.reconstruction.decoder import MeshDecoder
from retinaface_tf.reconstruction.lighting import Lighting, split_lighting
from retinaface_tf.reconstruction.renderer import MeshRenderer, Rendering

CAMERA_NUMBERS, LIGHTING_NUMBERS = 7, 9

# What zeros mean: a face looking at the camera that fills its box, five face sizes away, under a
# light above the camera. Heads of turned faces turn about a point between the ears, not the nose.
FACE_CENTER = (0.0, 0.0, 0.3)
_DISTANCE, _FOCAL = 5.0, 8.5
_LIGHT = (0.0, -2.0, 1.0)
_SHIFT, _TURN, _ZOOM, _LIGHT_SHIFT, _BRIGHTNESS = 0.2, 0.5, 0.2, 1.0, 0.2
_COLOR, _AMBIENT = 0.5, 0.5


class FaceParameters(NamedTuple):
    """What the branch predicts for each of N faces.

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

    A cell's anchors of different sizes have different crops, so each has weights of its own, as in
    the other heads. A fresh head predicts nearly zero: the mean face, looking ahead.

    Args:
        slots: anchors of a cell, over all levels (`dense_frames.slots_of_anchors`); 1 for one
            set of weights.
        code: numbers of the decoder's code.

    Inputs: features [N, C] of the cells of N anchors, and slots int [N]; output [N, code + 16] for
    `interpret`.
    """

    def __init__(self, slots: int = 1, code: int = 128, **kwargs):
        super().__init__(**kwargs)
        self.slots, self.code = slots, code

    def build(self, features_shape, slots_shape=None):
        width = self.code + CAMERA_NUMBERS + LIGHTING_NUMBERS
        small = keras.initializers.RandomNormal(stddev=1e-3)
        shape = (self.slots, features_shape[-1], width)
        self.kernel = self.add_weight(shape=shape, initializer=small, name="kernel")
        self.bias = self.add_weight(shape=(self.slots, width), initializer="zeros", name="bias")

    def call(self, features, slots):
        kernel, bias = ops.take(self.kernel, slots, axis=0), ops.take(self.bias, slots, axis=0)
        return ops.matmul(features[:, None], kernel)[:, 0] + bias

    def compute_output_shape(self, features_shape, slots_shape=None):
        return (features_shape[0], self.code + CAMERA_NUMBERS + LIGHTING_NUMBERS)

    def get_config(self):
        return {**super().get_config(), "slots": self.slots, "code": self.code}


def gather_cells(outputs: dict, config: RetinaFaceConfig, image, anchors, anchor_numbers, shape):
    """The features of anchors' own cells: what a 1x1 convolution at them would read.

    Args:
        outputs: of a network with `config.dense`, for its feature maps "features_8", ...
        image: int32 [N], which image of the batch.
        anchors: [N, 4] cx, cy, w, h.
        anchor_numbers: int32 [N], in the order of `geometry.generate_anchors`.
        shape: height and width of the network's input.

    Returns:
        features [N, C] and slots int [N].
    """
    maps = [outputs[name] for name in config.dense_outputs]
    shape = [ops.convert_to_tensor(side, "int32") for side in shape]
    anchor_numbers = ops.convert_to_tensor(anchor_numbers, "int32")
    image = ops.convert_to_tensor(image, "int32")
    table = sampling_table(config, *shape)
    slots = slots_of_anchors(config, *shape, anchor_numbers)
    cell = dataclasses.replace(config.dense, grid=1)
    frames = anchor_frames(ops.convert_to_tensor(anchors, "float32"))
    return sample_features(stacked_cells(maps), image, frames, slots, table, cell)[:, 0], slots


class FaceReconstruction:
    """Decoder and renderer: numbers to meshes, images and L_pixel.

    Args:
        decoder: pre-trained, usually not trained further.
        size: side in pixels of the rendered crops.
    """

    def __init__(self, decoder: MeshDecoder, size: int = 64):
        self.decoder = decoder
        self.renderer = MeshRenderer(decoder.triangles, len(decoder.template), size)

    def mesh(self, parameters: FaceParameters):
        """Vertices [N, V, 3] around `FACE_CENTER`, and albedo [N, V, 3]."""
        decoded = self.decoder(parameters.code)
        center = ops.convert_to_tensor(FACE_CENTER, decoded.dtype)
        return decoded[..., :3] - center, decoded[..., 3:]

    def render(self, parameters: FaceParameters, background=None, mesh=None) -> Rendering:
        """The faces in their crops; `background` is [N, S, S, 3], None is black.

        `mesh`, here and below, is what `self.mesh(parameters)` gave, to decode once only.
        """
        vertices, albedo = self.mesh(parameters) if mesh is None else mesh
        return self.renderer(vertices, albedo, parameters.camera, parameters.lighting, background)

    def points(self, parameters: FaceParameters, mesh=None):
        """The image's eyes, nose and mouth corners [N, 5, 2] in parts of the crop's side, 0..1.

        For meshes whose first 68 vertices are iBUG's, as our own.
        """
        vertices, _ = self.mesh(parameters) if mesh is None else mesh
        five = posed(five_of_vertices(vertices), parameters.camera)
        return project(five, parameters.camera.focal, 1)[..., :2]

    def loss(self, parameters: FaceParameters, crops, mesh=None):
        """L_pixel of each face [N], over what the mesh covers.

        Args:
            parameters: of N faces.
            crops: [N, S, S, 3] RGB, 0..1.
        """
        rendering = self.render(parameters, crops, mesh)
        return pixel_loss(rendering.image, crops, rendering.coverage)


def pixel_loss(rendered, crop, coverage=None):
    """Mean absolute difference of pixels, for each face.

    The paper's mean is over all W x H pixels of the anchor's crop. A mesh of a face leaves part of
    a crop empty, and what an empty pixel is compared with decides whether faces want to grow or to
    shrink. With `coverage` the mean is over what the mesh covers, so neither pays.

    Args:
        rendered: [B, S, S, 3] RGB, 1 is white; over the crop itself where `coverage` is given.
        crop: [B, S, S, 3] the photo.
        coverage: [B, S, S, 1] of `MeshRenderer`, or None for the plain mean.

    Returns:
        [B].
    """
    difference = ops.mean(ops.abs(rendered - crop), axis=-1)
    if coverage is None:
        return ops.mean(difference, axis=(1, 2))
    covered = ops.sum(coverage[..., 0], axis=(1, 2))
    # A face outside its crop covers no pixel; its difference is 0.
    return ops.sum(difference, axis=(1, 2)) / ops.maximum(covered, 1)
