"""A browser plays what `blur` writes, with its sound."""

import json
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime
from tests.helpers.film import film
from tests.helpers.waiting import PATIENCE
from tests.web.test_web import CHROMIUM

pytest.importorskip("av")
PAGE = """<video src="out/a.mp4" muted></video><script>
const video = document.querySelector("video");
const say = (said) => fetch("/", {method: "POST", body: JSON.stringify(said)});
video.onerror = () => say({error: video.error.message});
video.onended = () => say({
  seconds: video.duration, size: [video.videoWidth, video.videoHeight],
  frames: video.getVideoPlaybackQuality().totalVideoFrames,
  sound: video.webkitAudioDecodedByteCount,
});
video.play();
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")
def test_chromium_plays_a_blurred_video_with_its_sound(tmp_path, monkeypatch):
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    cli.with_commands()
    film(tmp_path / "a.mp4", count=40)
    arguments = ["blur", str(tmp_path / "a.mp4"), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    (tmp_path / "index.html").write_text(PAGE)
    said, answered = [], threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self):
            said.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            answered.set()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = subprocess.Popen(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
            "--autoplay-policy=no-user-gesture-required",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"http://127.0.0.1:{server.server_port}/index.html",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert answered.wait(PATIENCE)
    finally:
        browser.terminate()
        browser.wait(PATIENCE)
        server.shutdown()
    (played,) = said
    assert played["size"] == [192, 128] and played["frames"] == 40
    assert played["seconds"] == pytest.approx(1.6, abs=0.1) and played["sound"] > 1000
