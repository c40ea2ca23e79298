"""The Android app, built and tested by its own script: a JDK, Maven and Debian's aapt2 are enough."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "tflite" / "android" / "build.py"
TOOLS = ("java", "javac", "keytool", "mvn", "aapt2", "zipalign", "apksigner")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tools() -> None:
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}; see the top of {SCRIPT}")


@pytest.fixture(scope="module")
def vectors(decoder_vectors) -> Path:
    return decoder_vectors


def build(*arguments) -> str:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def apk(tools, vectors) -> Path:
    return Path(build("apk", "--models", vectors / "models").splitlines()[-1])


def dex_files(apk: Path) -> list[bytes]:
    with zipfile.ZipFile(apk) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"classes\d*\.dex", name)]
        return [archive.read(name) for name in names]


def ask(*command) -> str:
    return subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True
    ).stdout


def test_the_library_and_the_app_pass_their_own_tests(tools, vectors):
    output = build("test", "--vectors", vectors)
    assert int(re.search(r"OK \((\d+) tests\)", output)[1]) >= 46
    compared, faces = map(int, re.search(r"(\d+) vectors, (\d+) faces, largest", output).groups())
    assert compared >= 38 and faces >= 390


def test_the_apk_is_signed_and_aligned(apk):
    output = ask("apksigner", "verify", "--verbose", "--min-sdk-version", 24, apk)
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in output
    ask("zipalign", "-c", 4, apk)


def test_a_changed_apk_does_not_verify(apk, tmp_path):
    content = bytearray(apk.read_bytes())
    content[len(content) // 2] ^= 1
    changed = tmp_path / "changed.apk"
    changed.write_bytes(content)
    done = subprocess.run(["apksigner", "verify", str(changed)], capture_output=True)
    assert done.returncode != 0


def test_the_manifest_names_what_a_phone_has_to_know(apk):
    output = ask("aapt2", "dump", "badging", apk)
    assert "package: name='retinaface.demo'" in output
    assert "launchable-activity: name='retinaface.demo.MainActivity'" in output
    assert "uses-permission: name='android.permission.CAMERA'" in output
    assert "sdkVersion:'24'" in output and "targetSdkVersion:'34'" in output


def test_the_models_are_the_exports_byte_for_byte(apk, vectors):
    with zipfile.ZipFile(apk) as archive:
        for name in ("float32.tflite", "int8.tflite"):
            assert archive.read(f"assets/{name}") == (vectors / "models" / name).read_bytes()


def test_the_code_and_the_interpreter_are_inside(apk):
    defined = {name for dex in dex_files(apk) for name in classes_of(dex)}
    for wanted in (
        "retinaface/RetinaFaceDetector",
        "retinaface/LandmarkSmoother",
        "retinaface/demo/MainActivity",
        "retinaface/demo/FacesApp",
        "retinaface/demo/R$string",
        "org/tensorflow/lite/Interpreter",
        "org/tensorflow/lite/InterpreterApi",
        "kotlin/jvm/internal/Intrinsics",
    ):
        assert f"L{wanted};" in defined
    assert not any("robolectric" in name or "junit" in name for name in defined)
    with zipfile.ZipFile(apk) as archive:
        names = archive.namelist()
    for processor in ("arm64-v8a", "armeabi-v7a", "x86_64"):
        assert f"lib/{processor}/libtensorflowlite_jni.so" in names


def test_every_class_it_mentions_is_on_the_phone(apk):
    (jar,) = (SCRIPT.parent / "build" / "jars").glob("android-all-14-*.jar")
    with zipfile.ZipFile(jar) as archive:
        there = {f"L{name[:-6]};" for name in archive.namelist() if name.endswith(".class")}
    for dex in dex_files(apk):
        there.update(classes_of(dex))
    mentioned = {name.lstrip("[") for dex in dex_files(apk) for name in types_of(dex)}
    missing = {
        name
        for name in mentioned - there
        if name.startswith("L") and not name.startswith(("Ljava/", "Ldalvik/"))
    }
    assert not missing


def test_a_missing_model_is_named(tools, tmp_path):
    command = [sys.executable, str(SCRIPT), "apk", "--models", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 1
    assert f"There is no {tmp_path / 'float32.tflite'}" in done.stderr


def classes_of(dex: bytes) -> list[str]:
    """The classes that a .dex file defines, by the format's tables: Lpackage/Name;."""
    types = types_of(dex)
    count, definitions = struct.unpack_from("<II", dex, 96)
    return [types[struct.unpack_from("<I", dex, definitions + 32 * i)[0]] for i in range(count)]


def types_of(dex: bytes) -> list[str]:
    """All types that a .dex file mentions."""
    assert dex[:4] == b"dex\n"
    (strings,) = struct.unpack_from("<I", dex, 60)
    count, types = struct.unpack_from("<II", dex, 64)
    found = []
    for i in range(count):
        (index,) = struct.unpack_from("<I", dex, types + 4 * i)
        (start,) = struct.unpack_from("<I", dex, strings + 4 * index)
        while dex[start] & 0x80:  # the length before the characters
            start += 1
        found.append(dex[start + 1 : dex.index(0, start + 1)].decode())
    return found
