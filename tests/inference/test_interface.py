"""One interface for every detector: a network here, with test-time augmentation, or on a server."""

import pickle

import numpy as np
import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.config import DetectionSettings, RetinaFaceConfig
from retinaface_tf.errors import BatchError, ConfigError, ImageError
from retinaface_tf.inference.remote import RemoteBackend
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image


class Server:
    """Answers as an exported model does: rows of zeros behind the last face."""

    def predict(self, inputs):
        found = RetinaFace(BrightPixelRuntime(), threshold=0.1).detect(
            inputs["image_bytes"], on_error="return"
        )
        count = max((len(f) for f in found if not isinstance(f, ImageError)), default=0)
        shapes = {"boxes": (4,), "scores": (), "landmarks": (5, 2)}
        answer = {name: np.zeros((len(found), count, *s), "f") for name, s in shapes.items()}
        for i, faces in enumerate(found):
            for name in shapes if not isinstance(faces, ImageError) else ():
                answer[name][i, : len(faces)] = getattr(faces, name)
        failed = np.array([isinstance(faces, ImageError) for faces in found])
        counts = [0 if isinstance(faces, ImageError) else len(faces) for faces in found]
        return answer | {"num_faces": np.array(counts), "status": failed.astype(int)}


KINDS = {
    "network": lambda: RetinaFace(BrightPixelRuntime()),
    "augmented": lambda: AugmentedDetector(RetinaFace(BrightPixelRuntime()), Augmentation()),
    "server": lambda: RetinaFace(RemoteBackend(Server())),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def detector(kind):
    return KINDS[kind]()


def test_they_find_the_same_faces(detector):
    image = black_image(100, 120, (5, 6), (5, 12))
    faces = detector.detect(image)
    np.testing.assert_allclose(sorted(faces.boxes.tolist()), [[36, 28, 68, 60], [84, 28, 116, 60]])
    assert faces.image_size == (100, 120) and faces.landmarks.shape == (2, 5, 2)
    assert len(detector.detect(image, max_faces=1)) == 1
    assert len(detector.detect(image, threshold=0.95)) == 0


def test_one_bad_image_costs_only_its_own_answer(detector):
    images = [black_image(64, 64, (2, 2)), b"no image", black_image(64, 64)]
    answers = detector.detect(images, batch_size=2, on_error="return")
    assert [len(a) if not isinstance(a, ImageError) else a for a in answers][::2] == [1, 0]
    assert isinstance(answers[1], ImageError) and isinstance(
        list(detector.stream(images))[1], ImageError
    )
    with pytest.raises(BatchError, match="1 of 3") as caught:
        detector.detect(images)
    sent = pickle.loads(pickle.dumps(caught.value))  # as a process pool sends it
    assert str(sent) == str(caught.value) and sent.results[0] == answers[0]
    with pytest.raises(ImageError):
        detector.detect(b"no image")


def test_they_say_what_they_are(detector, kind):
    known = kind != "server"
    assert detector.config == (RetinaFaceConfig() if known else None)
    assert detector.backend.name == ("test" if known else "server")
    assert detector.num_vertices is None
    assert detector.settings == DetectionSettings()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"on_error": "skip"}, "on_error='skip' must be 'raise' or 'return'"),
        ({"on_error": None}, "on_error=None must be 'raise' or 'return'"),
        ({"colour": 1}, "Unknown setting 'colour'; there are threshold, iou, size"),
    ],
)
def test_senseless_settings_are_refused(detector, settings, message):
    with pytest.raises(ConfigError, match=message):
        detector.detect([black_image(64, 64)], **settings)
    with pytest.raises(ConfigError, match=message):
        detector.detect(black_image(64, 64), **settings)


def test_settings_come_as_an_object_or_by_name():
    settings = DetectionSettings(threshold=0.95, max_faces=3)
    detector = RetinaFace(BrightPixelRuntime(), settings=settings, iou=0.3)
    assert detector.settings == DetectionSettings(threshold=0.95, iou=0.3, max_faces=3)
    assert len(detector.detect(black_image(64, 64, (2, 2)))) == 0
    augmented = AugmentedDetector(detector, Augmentation(flip=True), threshold=0.1)
    assert augmented.settings == DetectionSettings(threshold=0.1, iou=0.3, max_faces=3)
    assert len(augmented.detect(black_image(64, 64, (2, 2)))) == 1
    with pytest.raises(ConfigError, match="Unknown setting 'colour'"):
        RetinaFace(BrightPixelRuntime(), colour=1)


def test_test_time_augmentation_has_scales_and_no_size():
    detector = KINDS["augmented"]()
    with pytest.raises(ConfigError, match="scales"):
        detector.detect(black_image(64, 64), size=100)
    with pytest.raises(ConfigError, match="scales"):
        AugmentedDetector(detector.detector, Augmentation(), size=100)


def test_what_a_server_decides_cannot_be_asked_of_it():
    with pytest.raises(ConfigError, match="size=100 cannot be asked of a server"):
        KINDS["server"]().detect(black_image(64, 64), size=100)
