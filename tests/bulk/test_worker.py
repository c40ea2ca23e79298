"""A worker that fails or crashes: its image is identified, left out and gets a row that says so."""

import dataclasses
import pickle

import pytest

from retinaface_tf import Faces
from retinaface_tf.bulk import read_results
from retinaface_tf.bulk.attempts import ATTEMPTS_FOLDER, Attempts
from retinaface_tf.bulk.network import NetworkSpec
from retinaface_tf.bulk.shards import list_shards
from retinaface_tf.bulk.worker import Job, Worker, detect_shard
from retinaface_tf.config import DEFAULT_SETTINGS, DetectionSettings
from retinaface_tf.errors import DataError, ImageError, WorkerError
from retinaface_tf.inference.test_time_augmentation import Augmentation
from tests.helpers.bulk_inputs import encoded


class Crash(BaseException):
    """Stands for SIGKILL: no handler of the worker runs."""


class CrashingDetector:
    """Crashes at some images."""

    num_vertices = None

    def __init__(self, detector, crashing, error=Crash):
        self.detector, self.crashing, self.error = detector, crashing, error

    def stream(self, images, batch_size):
        def watched():
            for image in images:
                if any(image.endswith(name) for name in self.crashing):
                    raise self.error(image)
                yield image

        return self.detector.stream(watched(), batch_size=batch_size)


@pytest.fixture
def job(tmp_path):
    network = NetworkSpec("unused", "litert", "", DEFAULT_SETTINGS, None, None)
    return Job(network, str(tmp_path / "out"), 4, 3, "run-1", "0")


def worker_of(job, detector):
    worker = Worker(job, "test/1")
    worker._detector = detector
    return worker


def answers(job):
    return {r.image.rsplit("/", 1)[1]: r.answer for r in read_results(job.out)}


def test_a_job_travels_to_workers(job):
    settings = DetectionSettings(threshold=0.3, size=(300, 400), large_faces=False)
    augmentation = Augmentation(scales=((500, 900), "original", None), flip=True, tile=640)
    network = NetworkSpec("a.tflite", "litert", "abc", settings, augmentation, 1)
    job = dataclasses.replace(job, network=network)
    assert pickle.loads(pickle.dumps(job)) == job


def test_a_shard_with_a_damaged_image(folder, detector, tmp_path):
    (shard,) = list_shards([folder], rows=10)
    report = detect_shard(detector, shard, tmp_path / "out", batch_size=4)
    found = list(read_results(tmp_path / "out"))
    assert [r.index for r in found] == list(range(7))
    for number, result in enumerate(found):
        assert result.image == str(folder / f"{number}.png")
        if number == 3:
            assert "3.png: it is not an image" in str(result.answer)
        else:
            assert len(result.answer) == number % 3
            assert result.answer.image_size == (64, 64 + number)
    assert (report.images, report.errors, report.faces) == (7, 1, 6)


def test_problems_keep_their_place_among_answers(detector, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [None, encoded(1), None, None, encoded(2), None]
    pq.write_table(pa.table({"image": pa.array(images, pa.binary())}), tmp_path / "t.parquet")
    (shard,) = list_shards([tmp_path / "t.parquet"], rows=10)
    detect_shard(detector, shard, tmp_path / "out", batch_size=1)
    kinds = [isinstance(r.answer, Faces) for r in read_results(tmp_path / "out")]
    assert kinds == [image is not None for image in images]


def test_an_image_at_which_two_workers_crash_is_left_out(folder, detector, job):
    (shard,) = list_shards([folder], rows=10)
    crashes = 0
    while True:
        crashing = CrashingDetector(detector, ["2.png", "5.png"])
        try:
            report = worker_of(job, crashing)(shard)
            break
        except Crash:
            crashes += 1
    # One in batches, then two for each crashing image.
    assert crashes == 5
    found = answers(job)
    for name in ("2.png", "5.png"):
        assert str(found.pop(name)).endswith(f"{name}: every worker that tried crashed.")
    assert isinstance(found.pop("3.png"), ImageError)
    assert all(len(faces) == int(name[0]) % 3 for name, faces in found.items())
    assert report.errors == 3 and report.images == 7
    assert not list((folder.parent / "out" / ATTEMPTS_FOLDER).iterdir())


def test_a_programming_error_over_one_image_is_treated_alike(folder, detector, job):
    (shard,) = list_shards([folder], rows=10)
    report = worker_of(job, CrashingDetector(detector, ["2.png"], ValueError))(shard)
    assert report.errors == 2 and "every worker" in str(answers(job)["2.png"])


def test_crashes_that_no_image_explains_end_the_run(folder, detector, job):
    (shard,) = list_shards([folder], rows=10)
    everywhere = ["0.png", "1.png", "2.png", "4.png", "5.png"]
    for name in everywhere[:4]:  # never twice over the same
        with pytest.raises(Crash):
            worker_of(job, CrashingDetector(detector, [name]))(shard)
    with pytest.raises(WorkerError, match=r"4 attempts at faces-000000.parquet"):
        worker_of(job, detector)(shard)
    # The next run begins anew.
    again = dataclasses.replace(job, run="run-2")
    assert worker_of(again, detector)(shard).errors == 1


def test_attempts_of_another_run_and_a_cut_off_line_do_not_count(tmp_path):
    first = Attempts(tmp_path, 7, "a", 0)
    first.begin()
    first.at(5)
    second = Attempts(tmp_path, 7, "b", 0)
    second.begin()
    assert not second.one_at_a_time and not second.crashing
    with second._path.open("a") as file:
        file.write('{"at": 1')
    third = Attempts(tmp_path, 7, "b", 1)
    third.begin()
    assert third.one_at_a_time and not third.crashing
    third.at(2)
    fourth = Attempts(tmp_path, 7, "b", 1)
    with pytest.raises(WorkerError, match="2 attempts"):
        fourth.begin()
    fourth.finish()
    fourth.finish()


def test_results_that_cannot_be_written_stop_the_run(folder, detector, job, tmp_path):
    (shard,) = list_shards([folder], rows=10)
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="Cannot write"):
        worker_of(job, detector)(shard)


def test_a_worker_of_another_version_says_so(folder, job):
    (shard,) = list_shards([folder], rows=10)
    with pytest.raises(WorkerError, match="install the same everywhere"):
        Worker(dataclasses.replace(job, version="9"))(shard)
