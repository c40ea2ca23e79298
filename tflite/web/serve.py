"""Puts the page, LiteRT.js and the models into one folder and serves it.

    python tflite/web/serve.py                     # http://localhost:8000
    python tflite/web/serve.py --build-only        # the folder alone, for any static server

The first run fetches LiteRT.js with npm (pinned in package-lock.json) and takes the preset's trained
network as float32 and int8: from the package where it lies there, exported otherwise. Later runs need
neither npm, TensorFlow nor a network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import ssl
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = HERE / "node_modules" / "@litertjs"
PAGE = ("index.html", "style.css", "src")
# The builds of LiteRT.js a browser may need: threads, one thread, without relaxed SIMD.
WASM = ("litert_wasm_threaded_internal", "litert_wasm_internal", "litert_wasm_compat_internal")
SIZE = (480, 640)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "dist", help="folder to write and serve")
    parser.add_argument("--preset", help="trained network to export, instead of the default")
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        default=[],
        help="a network of your own instead: .tflite as it is, .weights.h5 or .keras to be "
        "exported; may be given several times",
    )
    parser.add_argument("--calibration", type=Path, help="about 100 photos to measure int8 on")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for other devices")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--certificate", type=Path, help="PEM file, for https")
    parser.add_argument("--key", type=Path, help="PEM file of the certificate's key")
    parser.add_argument("--build-only", action="store_true", help="write the folder and stop")
    options = parser.parse_args()

    build_page(options.out)
    asked = options.preset or options.model or options.calibration
    if asked or not (options.out / "models" / "models.json").is_file():
        write_models(
            options.out / "models",
            options.preset,
            options.model,
            options.calibration,
        )
    if options.build_only:
        print(f"wrote {options.out}; serve it with the headers in tflite/web/README.md")
        return
    serve(options.out, options.host, options.port, options.certificate, options.key)


def build_page(out: Path) -> None:
    """The page and LiteRT.js in `out`; models that lie there stay."""
    if not (PACKAGES / "core" / "wasm").is_dir():
        fetch_litert()
    out.mkdir(parents=True, exist_ok=True)
    for name in PAGE:
        source, target = HERE / name, out / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    litert = out / "litert"
    (litert / "wasm").mkdir(parents=True, exist_ok=True)
    # A worker has no import map: the one import by package name becomes a path.
    script = (PACKAGES / "core" / "dist" / "index.js").read_text()
    script = script.replace('"@litertjs/wasm-utils"', '"./wasm-utils.js"')
    (litert / "litert.js").write_text(script)
    shutil.copy(PACKAGES / "wasm-utils" / "dist" / "index.js", litert / "wasm-utils.js")
    for name in WASM:
        for suffix in (".js", ".wasm"):
            shutil.copy(PACKAGES / "core" / "wasm" / f"{name}{suffix}", litert / "wasm")


def fetch_litert() -> None:
    """LiteRT.js as package-lock.json pins it, through npm."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("LiteRT.js is fetched with npm, which is not installed: install Node.js 20.")
    command = [npm, "ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts"]
    if subprocess.run(command, cwd=HERE, check=False).returncode:
        sys.exit("npm could not fetch LiteRT.js: see its message above, then try again.")


def write_models(
    folder: Path, preset: str | None, networks: list[Path], calibration: Path | None
) -> None:
    """The .tflite files and `models.json`, the list the page reads."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for path in networks or [None]:
        if path is not None and path.suffix == ".tflite":
            shutil.copy(path, folder / path.name)
            files.append(path.name)
        else:
            files += export_both(folder, preset, path, calibration)
    listed = [{"name": name.removesuffix(".tflite"), "file": name} for name in files]
    (folder / "models.json").write_text(json.dumps(listed, indent=2) + "\n")


def export_both(
    folder: Path, preset: str | None, network: Path | None, calibration: Path | None
) -> list[str]:
    """float32 and int8 files of a network; their names."""
    sys.path.insert(0, str(HERE.parents[1]))
    from retinaface_tf.presets import DEFAULT_PRESET, get_preset

    preset = preset or DEFAULT_PRESET
    source = get_preset(preset).source
    if not network and not calibration and source and source.file("tflite", "int8"):
        return copy_packaged(folder, source)

    from retinaface_tf.export.calibration import CalibrationPhotos
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.weights.choose_file import load_preset
    from retinaface_tf.weights.load import load_weights

    loaded = load_weights(network) if network else load_preset(preset)
    mean = loaded.config.pixel_mean
    if calibration:
        photos = CalibrationPhotos(calibration, SIZE, mean)
    else:
        print("int8 is measured on scikit-image's few images; better: --calibration PHOTOS")
        photos = sample_photos(mean)
    stem = f"{network.name.split('.')[0]}-" if network else ""
    names = []
    for precision in ("float32", "int8"):
        names.append(f"{stem}{precision}.tflite")
        export_tflite(
            loaded,
            folder / names[-1],
            size=SIZE,
            precision=precision,
            calibration=photos,
            preset=None if network else preset,
        )
        print(f"wrote {folder / names[-1]}")
    return names


def copy_packaged(folder: Path, source) -> list[str]:
    """The files of a network that lies in the package, int8 measured on real photos; their names."""
    names = []
    for precision in ("float32", "int8"):
        names.append(f"{precision}.tflite")
        shutil.copy(source.file("tflite", precision), folder / names[-1])
        print(f"wrote {folder / names[-1]}")
    return names


def sample_photos(mean: tuple[float, float, float]) -> list:
    """A few images for int8's ranges: a portrait at several sizes, and things without faces."""
    from skimage import data

    from retinaface_tf.inference.preprocess import prepare, stack_padded

    portrait = data.astronaut()
    images = [portrait, portrait[:220, 110:330], portrait[40:200, 150:300]]
    images += [data.coffee(), data.chelsea(), data.rocket()]
    images += [image[:, ::-1] for image in images]
    return [stack_padded([prepare(p, fixed_shape=SIZE).pixels], SIZE, mean)[0] for p in images]


class Handler(SimpleHTTPRequestHandler):
    """Files, with the headers that let WebAssembly use several threads."""

    extensions_map = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".tflite": "application/octet-stream",
    }

    def end_headers(self) -> None:
        """Adds them."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *arguments) -> None:
        """Says nothing of requests that went well."""


def serve(folder: Path, host: str, port: int, certificate: Path | None, key: Path | None) -> None:
    """Serves until interrupted."""
    try:
        server = ThreadingHTTPServer((host, port), partial(Handler, directory=str(folder)))
    except OSError as error:
        sys.exit(f"Port {port} cannot be used ({error.strerror}): give another with --port.")
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
    scheme = "https" if certificate else "http"
    print(f"{scheme}://{shown}:{server.server_port}  (Ctrl+C stops)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
