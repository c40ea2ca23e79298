"""What a user writes; mypy and pyright find nothing to say about it, both in their strict mode."""

from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retinaface_tf import Face, Faces, RetinaFace, get_preset, list_presets, load_image
from retinaface_tf.errors import ImageError
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector


def main(photo: Path, more: list[Path]) -> None:
    """Everything that has a type of its own for each way to call it."""
    detector = RetinaFace.from_preset("lite", runtime="auto", threads=2, threshold=0.6, size=800)
    pixels = load_image(photo)
    assert_type(pixels, NDArray[np.uint8])
    faces = detector.detect(pixels, max_faces=3)
    assert_type(faces, Faces)
    assert_type(detector.detect(more), list[Faces])
    assert_type(detector.detect((str(photo), photo.read_bytes())), list[Faces])
    assert_type(detector.detect(["a.jpg", photo, pixels]), list[Faces])
    assert_type(detector.detect(more, on_error="return"), list[Faces | ImageError])
    assert_type(faces[0], Face)
    assert_type(faces[:2], Faces)
    assert_type(faces[faces.scores > 0.9], Faces)
    assert_type(faces.boxes, NDArray[np.float32])
    assert_type([face.score for face in faces], list[float])
    for answer in AugmentedDetector(detector, Augmentation(flip=True)).stream(more, iou=0.3):
        if isinstance(answer, ImageError):
            print(answer)
        elif answer.vertices is not None:
            print(answer.vertices.shape, answer.pose)
    with Image.open(photo) as image, photo.open("rb") as file:
        Image.fromarray(faces.draw(image)).save("faces.png")
        crops = RetinaFace.from_file("lite.onnx", providers=["cpu"]).detect(file).align(image, 160)
    assert_type(crops, NDArray[np.uint8])
    print([get_preset(name).config.backbone for name in list_presets()])
