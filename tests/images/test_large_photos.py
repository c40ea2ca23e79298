"""Photos of 100 million pixels and more: searched, drawn and cropped in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from retinaface_tf import RetinaFace
from retinaface_tf.errors import ImageError
from retinaface_tf.images import read
from retinaface_tf.images.read import CachedImage, read_image, read_shrunk
from retinaface_tf.inference import detector as inference_detector
from retinaface_tf.inference import test_time_augmentation
from retinaface_tf.inference.preprocess import bucket_shape, read_and_prepare
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image


def jpeg(image, orientation=1, **options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = BytesIO()
    Image.fromarray(image).save(stream, "JPEG", exif=exif, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    y, x = np.mgrid[:300, :404]
    return np.stack([x * 255 // 404, y * 255 // 300, 0 * x + 90], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_large_jpeg_is_shrunk_while_decoded_and_upright(smooth, orientation, options):
    data = jpeg(smooth, orientation, **options)
    whole = read_image(data)
    for least, factor in ((300, 1), (150, 2), (149, 2), (75, 4), (30, 8), (1, 8)):
        height, width = (side * least // 300 for side in whole.shape[:2])
        pixels, size = read_shrunk(data, lambda *_, wanted=(height, width): wanted)
        assert size == whole.shape[:2]
        assert pixels.shape[:2] == tuple(-(-side // factor) for side in size)
        exact = whole[factor // 2 :: factor, factor // 2 :: factor].astype(int)
        part = pixels[: len(exact), : exact.shape[1]]
        assert np.abs(part - exact).mean() < 4


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_are_shrunk_alike(smooth, mode):
    stream = BytesIO()
    Image.fromarray(smooth).convert(mode).save(stream, "JPEG")
    pixels, size = read_shrunk(stream.getvalue(), lambda *_: (75, 101))
    assert size == (300, 404) and pixels.shape == (75, 101, 3)
    whole = read_image(stream.getvalue())[2::4, 2::4].astype(int)
    assert np.abs(pixels - whole).mean() < 4


def test_other_formats_come_whole(smooth):
    stream = BytesIO()
    Image.fromarray(smooth).save(stream, "PNG")
    for source in (stream.getvalue(), smooth):
        pixels, size = read_shrunk(source, lambda *_: (1, 1))
        assert pixels.shape[:2] == size


@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_are_in_pixels_of_the_original(orientation):
    image = np.kron(black_image(64, 96, (2, 2), (4, 9)), np.ones((8, 8, 1), np.uint8))
    stored = image if orientation == 1 else np.rot90(image)
    detector = RetinaFace(BrightPixelRuntime(), size=64, large_faces=False)
    faces = detector.detect(jpeg(stored, orientation, quality=100))
    assert faces.image_size == (512, 768)
    np.testing.assert_allclose(
        sorted(faces.boxes.tolist()), [[32, 32, 288, 288], [480, 160, 736, 416]]
    )
    prepared = read_and_prepare(jpeg(stored, orientation), 64)
    assert prepared.pixels.shape == (64, 96, 3) and prepared.scale == (1 / 8, 1 / 8)
    assert faces.draw(jpeg(stored, orientation)).shape == (512, 768, 3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_all_views_of_a_shrunk_photo_lead_to_pixels_of_the_original(orientation):
    image = np.kron(black_image(64, 96, (2, 2)), np.ones((8, 8, 1), np.uint8))
    data = jpeg(image if orientation == 1 else np.rot90(image), orientation, quality=100)
    detector = RetinaFace(BrightPixelRuntime(), large_faces=False)
    augmentation = Augmentation(scales=(64, 128), flip=True, rotations=(0, 2), vote=False)
    augmented = AugmentedDetector(detector, augmentation)
    faces = augmented.detect(data)
    assert faces.image_size == (512, 768) and len(faces) >= 1
    x1, y1, x2, y2 = faces.boxes[0]
    assert (x1 + x2) / 2 == pytest.approx(160, abs=34) and (y1 + y2) / 2 == pytest.approx(
        160, abs=34
    )
    views = {shape[1:3] for shape in detector.runtime.shapes}
    assert views == {bucket_shape(64, 96), bucket_shape(128, 192)}
    # Tiles and the original size need all pixels.
    for augmentation in (Augmentation(tile=256), Augmentation(scales=("original",))):
        faces = AugmentedDetector(detector, augmentation).detect(data)
        assert faces.image_size == (512, 768)
    assert (512, 768) in {shape[1:3] for shape in detector.runtime.shapes}


def test_few_large_images_are_held_at_once(monkeypatch):
    monkeypatch.setattr(test_time_augmentation, "MAX_WINDOW_PIXELS", 3 * 64 * 96)
    monkeypatch.setattr(inference_detector, "MAX_WINDOW_BYTES", 3 * 64 * 96 * 3)
    detector = RetinaFace(BrightPixelRuntime())
    for one, most in ((detector, 4 + 3), (AugmentedDetector(detector, Augmentation()), 3)):
        asked = 0

        def images():
            nonlocal asked
            for _ in range(30):
                asked += 1
                yield black_image(64, 96, (2, 2))

        ahead = []
        for answered, faces in enumerate(one.stream(images(), batch_size=4)):
            assert len(faces) == 1
            ahead.append(asked - answered)
        assert len(ahead) == 30 and max(ahead) == most


def test_a_cut_off_large_jpeg_is_refused(smooth):
    with pytest.raises(ImageError, match="truncated"):
        read_shrunk(jpeg(smooth)[:-500], lambda *_: (1, 1))


def test_too_large_a_search_is_refused_before_decoding_by_the_image_s_name(tmp_path, smooth):
    path = tmp_path / "big.jpg"
    path.write_bytes(jpeg(np.full((8000, 8000), 90, np.uint8))[:-2] + b"damaged")
    detector = RetinaFace(BrightPixelRuntime(), size="original")
    with pytest.raises(ImageError, match=r"big\.jpg: .*truncated"):
        detector.detect(path)
    path.write_bytes(jpeg(np.full((8000, 8000), 90, np.uint8)))
    with pytest.raises(ImageError, match=r"^Cannot search .*big\.jpg: .*8000x8000.*smaller size"):
        detector.detect(path)


def test_a_cached_image_is_decoded_once_unless_it_is_huge(tmp_path, smooth, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(smooth))
    cached = CachedImage(path)
    assert read_image(cached) is read_image(cached) is read_shrunk(cached, lambda *_: (1, 1))[0]
    monkeypatch.setattr(read, "_MAX_KEPT_PIXELS", 1000)
    large = CachedImage(path)
    assert read_shrunk(large, lambda *_: (1, 1))[0].shape == (38, 51, 3) and large.pixels is None
    assert read_image(large).shape == smooth.shape


SEARCH = """
import json, resource, sys
import numpy as np
from retinaface_tf import RetinaFace
detector = RetinaFace.from_preset("lite", threads=1)
detector.detect(np.zeros((1536, 2048, 3), np.uint8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
faces = detector.detect(sys.argv[1])
searched = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
crops = faces.align(sys.argv[1])
cropped = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([len(faces), faces.image_size, faces.boxes.tolist(), crops.shape,
                  (searched - before) >> 10, (cropped - before) >> 10]))
"""


def test_108_megapixels_are_searched_in_little_memory(tmp_path, astronaut):
    pytest.importorskip("resource")
    path = tmp_path / "p108.jpg"
    canvas = Image.new("RGB", (12000, 9000), "grey")
    canvas.paste(Image.fromarray(astronaut).resize((4096, 4096)), (5000, 3000))
    canvas.save(path, quality=60)
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    count, size, boxes, crops, searched, cropped = json.loads(done.stdout)
    assert (count, size, crops) == (1, [9000, 12000], [1, 112, 112, 3])
    alone = RetinaFace.from_preset("lite").detect(astronaut).boxes * 8 + [5000, 3000, 5000, 3000]
    np.testing.assert_allclose(boxes, alone, atol=100)
    assert searched < 150 and cropped < 450  # MiB; its pixels are 309 MiB
