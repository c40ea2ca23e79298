"""An exported model and a server around it, shared by the tests of this folder."""

import asyncio
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from retinaface_tf.export.savedmodel import SavedModelOptions, export_savedmodel
from tests.helpers.waiting import PATIENCE


@pytest.fixture(autouse=True)
def patient_clients(monkeypatch):
    """Clients wait for a server of this process, however slow it is."""
    monkeypatch.setattr("retinaface_tf.protocol.client.CONNECT_SECONDS", PATIENCE)


@pytest.fixture(scope="session")
def network():
    """An untrained network whose few "faces" stand at fixed places of every image."""
    import keras

    from retinaface_tf.models import build_retinaface

    keras.utils.set_random_seed(3)
    return build_retinaface()


@pytest.fixture(scope="session")
def threshold(network, photos):
    """A score that some anchors of the untrained network reach, and most do not."""
    from retinaface_tf.images.read import read_image
    from retinaface_tf.inference.runtimes.keras import KerasRuntime

    runtime = KerasRuntime(network)
    scores = [np.sort(runtime(read_image(p)[None]).scores[0])[-150] for p in photos]
    return float(np.median(scores))


@pytest.fixture(scope="session")
def photos():
    """Four photos of different sizes as files' bytes, cut from one portrait."""
    import cv2

    image = pytest.importorskip("skimage.data").astronaut()[..., ::-1]
    cuts = [image, image[:300, 60:460], image[:, :380], cv2.resize(image, (700, 640))]
    return [cv2.imencode(".jpg", np.ascontiguousarray(cut))[1].tobytes() for cut in cuts]


@pytest.fixture(scope="session")
def model_folder(network, threshold, tmp_path_factory) -> Path:
    """`retinaface/1`, searching each image at its own size."""
    folder = tmp_path_factory.mktemp("models") / "retinaface"
    export_savedmodel(network, folder, SavedModelOptions(threshold=threshold, max_pixels=4_000_000))
    return folder


@pytest.fixture(scope="session")
def served_folder(model_folder, tmp_path_factory) -> Path:
    """The same model without warm-up requests, so that servers start at once."""
    folder = tmp_path_factory.mktemp("served") / "retinaface"
    ignored = shutil.ignore_patterns("tf_serving_warmup_requests")
    shutil.copytree(model_folder, folder, ignore=ignored)
    return folder


class RunningServer:
    """A server in a thread of this process.

    Attributes:
        grpc, rest: "host:port".
        server: the `Server`.
    """

    def __init__(self, folder: Path, **options):
        from retinaface_tf.serving.server import Server, ServerOptions

        options = {"grace_seconds": PATIENCE, **options}
        self.server = Server(ServerOptions(folder=folder, port=0, rest_port=0, **options))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def __enter__(self):
        self._thread.start()
        self.call(self.server.start())
        self.grpc = f"127.0.0.1:{self.server.port}"
        self.rest = f"127.0.0.1:{self.server.rest_port}"
        return self

    def __exit__(self, *_):
        self.call(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)


@pytest.fixture(scope="session")
def server(served_folder):
    """A server without batching."""
    pytest.importorskip("grpc_health")
    pytest.importorskip("aiohttp")
    with RunningServer(served_folder) as running:
        yield running


@pytest.fixture(scope="session")
def run_server():
    """The class `RunningServer`, for tests that need a server of their own."""
    return RunningServer
