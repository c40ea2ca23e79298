"""Builds and tests the Android app without Android Studio, an SDK or Google's Maven repository.

    python tflite/android/build.py test --vectors DIR    JVM and Robolectric tests
    python tflite/android/build.py apk [--models DIR]    build/faces-debug.apk, signed

Needs a JDK (17 or newer), Maven, and aapt2, zipalign and apksigner (on Debian:
`apt-get install default-jdk-headless maven aapt zipalign apksigner`). Maven fetches the Kotlin
compiler, D8, Android's classes and TensorFlow Lite once into build/, as pinned in tools/; nothing is
written outside of build/.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
JARS = BUILD / "jars"
CHECKSUMS = HERE / "tools" / "checksums.txt"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"

# As in the modules' build.gradle.kts.
PACKAGE = "retinaface.demo"
MIN_SDK, TARGET_SDK = 24, 34
MODELS = ("float32.tflite", "int8.tflite")

_COMPILER = ("kotlin-", "kotlinx-", "annotations-13", "trove4j")
_NOT_FOR_TESTS = (
    "kotlin-compiler",
    "kotlin-daemon",
    "kotlin-script",
    "trove4j",
    "r8-",
    "android-all",
)
# Robolectric reaches into the class loader.
_TEST_OPTIONS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.lang", "java.io", "java.util", "java.net", "java.nio")
]


class BuildError(Exception):
    """What went wrong, in one sentence."""


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="download what the others need")
    test = commands.add_parser("test", help="run the JVM and Robolectric tests")
    test.add_argument("--vectors", type=Path, required=True, help="folder of write_vectors.py")
    apk = commands.add_parser("apk", help="build a signed debug APK")
    assets = HERE / "app/src/main/assets"
    apk.add_argument("--models", type=Path, default=assets, help=f"folder of {', '.join(MODELS)}")
    options = parser.parse_args()
    try:
        fetch()
        if options.command == "test":
            run_tests(options.vectors.resolve())
        elif options.command == "apk":
            print(build_apk(options.models.resolve()))
    except BuildError as error:
        sys.exit(f"error: {error}")


def fetch() -> None:
    """Downloads the files of tools/pom.xml unless they are there, and checks every one."""
    pinned = dict(reversed(line.split()) for line in CHECKSUMS.read_text().splitlines())
    if any(not (JARS / name).is_file() for name in pinned):
        shutil.rmtree(JARS, ignore_errors=True)
        _run(
            [_tool("mvn"), "--batch-mode", "--quiet", "--file", HERE / "tools/pom.xml"],
            [f"-Dmaven.repo.local={BUILD / 'm2'}", f"-DoutputDirectory={JARS}"],
            [f"{PLUGIN}:copy-dependencies"],
        )
        shutil.rmtree(BUILD / "m2")
    there = {path.name for path in JARS.iterdir()}
    if there != set(pinned):
        raise BuildError(f"{JARS} holds {sorted(there ^ set(pinned))}, unlike {CHECKSUMS}.")
    for name, expected in pinned.items():
        with (JARS / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise BuildError(f"{JARS / name} is not the file that {CHECKSUMS} names: delete it.")


def compile_main(resources: Path) -> list[Path]:
    """Classes of the library and the app."""
    libraries = [_jar("android-all-14"), _jar("kotlin-stdlib"), *_aar_classes("tensorflow-lite")]
    # The library first, and without the app in sight.
    detector = _kotlin("detector", HERE / "detector/src/main", libraries)
    app = _kotlin("app", HERE / "app/src/main", [*libraries, detector, resources])
    return [detector, app, resources]


def compile_resources(assets: Path | None) -> tuple[Path, Path]:
    """The APK without code, and the class `R` that names its resources."""
    gen, classes = _empty(BUILD / "gen"), _empty(BUILD / "classes/resources")
    manifest = _empty(BUILD / "manifest") / "AndroidManifest.xml"
    text = (HERE / "app/src/main/AndroidManifest.xml").read_text()
    # Gradle takes the package from build.gradle.kts, aapt2 from here.
    manifest.write_text(text.replace("<manifest ", f'<manifest package="{PACKAGE}" ', 1))
    compiled, linked = BUILD / "resources.zip", BUILD / "resources.apk"
    _run([_tool("aapt2"), "compile", "--dir", HERE / "app/src/main/res", "-o", compiled])
    _run(
        [_tool("aapt2"), "link", "-I", _jar("android-all-14"), "--manifest", manifest],
        ["--java", gen, "--min-sdk-version", MIN_SDK, "--target-sdk-version", TARGET_SDK],
        ["--version-code", 1, "--version-name", "1.0", "--debug-mode", "-0", ".tflite"],
        ["-A", assets] if assets else [],
        ["-o", linked, compiled],
    )
    sources = list(gen.rglob("*.java"))
    _run([_tool("javac"), "--release", 8, "-Xlint:-options", "-d", classes, *sources])
    return linked, classes


def build_apk(models: Path) -> Path:
    """Compiles, dexes, packages, aligns and signs; the APK's path."""
    assets = _empty(BUILD / "assets")
    for name in MODELS:
        if not (models / name).is_file():
            raise BuildError(f"There is no {models / name}: write it with `retinaface-tf export`.")
        shutil.copy(models / name, assets)
    unsigned, resources = compile_resources(assets)
    dex = _empty(BUILD / "dex")
    jars = [_pack(folder) for folder in compile_main(resources)]
    jars += [_jar("kotlin-stdlib"), *_aar_classes("tensorflow-lite")]
    _run(
        [_tool("java"), "-cp", _jar("r8-"), "com.android.tools.r8.D8", "--debug"],
        ["--min-api", MIN_SDK, "--lib", _java_home(), "--lib", _jar("android-all-14")],
        ["--output", dex, *jars],
    )
    with zipfile.ZipFile(unsigned, "a", zipfile.ZIP_DEFLATED) as apk:
        for path in sorted(dex.glob("*.dex")):
            apk.write(path, path.name)
        with zipfile.ZipFile(_jar("tensorflow-lite-2")) as aar:
            for name in sorted(aar.namelist()):
                if name.startswith("jni/") and name.endswith(".so"):
                    apk.writestr(name.replace("jni/", "lib/", 1), aar.read(name))
    aligned, signed = BUILD / "aligned.apk", BUILD / "faces-debug.apk"
    _run([_tool("zipalign"), "-f", 4, unsigned, aligned])
    _run(
        [_tool("apksigner"), "sign", "--ks", _debug_key(), "--ks-pass", "pass:android"],
        ["--min-sdk-version", MIN_SDK, "--out", signed, aligned],
    )
    return signed


def run_tests(vectors: Path) -> None:
    """The JVM tests of the library, and Robolectric's of the app."""
    linked, resources = compile_resources(None)
    main = compile_main(resources)
    names = [path.name for path in JARS.glob("*.jar") if not path.name.startswith(_NOT_FOR_TESTS)]
    libraries = [JARS / name for name in sorted(names)]
    libraries += [*_aar_classes("tensorflow-lite"), *_aar_classes("monitor")]
    libraries += _aar_classes("espresso-idling")
    tests = [_kotlin("vectors", HERE / "detector/src/vectors", [*main, *libraries])]
    for module, tested in zip(("detector", "app"), main):
        path = [*tests, *main, *libraries, _jar("android-all-14")]
        tests.append(_kotlin(f"{module}-test", HERE / module / "src/test", path, friend=tested))
    settings = _empty(BUILD / "robolectric") / "com/android/tools/test_config.properties"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        f"android_resource_apk={linked}\nandroid_custom_package={PACKAGE}\n"
        f"android_merged_manifest={BUILD / 'manifest/AndroidManifest.xml'}\n"
        f"android_merged_assets={_empty(BUILD / 'no-assets')}\n"
    )
    classes = [_class_name(path) for path in sorted(HERE.glob("*/src/test/**/*Test.kt"))]
    class_path = [*tests, *main, BUILD / "robolectric", *libraries, _jar("android-all-14")]
    _run(
        [_tool("java"), *_TEST_OPTIONS, "-cp", os.pathsep.join(map(str, class_path))],
        ["-Drobolectric.offline=true", f"-Drobolectric.dependency.dir={JARS}"],
        [f"-Dretinaface.vectors={vectors}", f"-Dretinaface.pictures={BUILD / 'images'}"],
        ["org.junit.runner.JUnitCore", *classes],
        show=True,
    )


def _kotlin(name: str, sources: Path, class_path: list[Path], friend: Path | None = None) -> Path:
    """Compiles a folder of sources, against Java 8's classes: newer ones are not on every phone.

    Tests see what is internal to the module they are a friend of.
    """
    out = BUILD / "classes" / name
    files = sorted(sources.rglob("*.kt"))
    arguments = ["-Xjdk-release=8", "-no-stdlib", "-no-reflect", "-Werror"]
    arguments += ["-module-name", name, "-d", out]
    arguments += [f"-Xfriend-paths={friend}"] if friend else []
    arguments += ["-cp", os.pathsep.join(map(str, class_path)), *files]
    stamp = out.with_suffix(".stamp")
    folders = [path for path in class_path if path.is_dir()]
    inputs = [*files, *(path for folder in folders for path in sorted(folder.rglob("*.class")))]
    content = [path.read_bytes() for path in inputs]
    digest = hashlib.sha256(b"\0".join([*content, str(arguments).encode()])).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        _empty(out)
        compiler = [path for path in JARS.glob("*.jar") if path.name.startswith(_COMPILER)]
        _run(
            [_tool("java"), "-Xmx1g", "-cp", os.pathsep.join(map(str, compiler))],
            ["org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", *arguments],
        )
        stamp.write_text(digest)
    return out


def _class_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[parts.index("kotlin") + 1 :])


def _aar_classes(prefix: str) -> list[Path]:
    """classes.jar of every AAR whose name begins so."""
    jars = []
    for aar in sorted(JARS.glob(f"{prefix}*.aar")):
        jar = BUILD / "aar" / f"{aar.stem}.jar"
        jar.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(aar) as archive:
            jar.write_bytes(archive.read("classes.jar"))
        jars.append(jar)
    return jars


def _pack(folder: Path) -> Path:
    """A folder of classes as a jar, which D8 wants."""
    return Path(shutil.make_archive(str(folder), "zip", folder)).rename(folder.with_suffix(".jar"))


def _java_home() -> Path:
    """Folder of the JDK; android-all leaves java.* to it."""
    return Path(_tool("javac")).resolve().parent.parent


def _debug_key() -> Path:
    """A key of this build folder, made when it is first needed."""
    key = BUILD / "debug.keystore"
    if not key.is_file():
        _run(
            [_tool("keytool"), "-genkeypair", "-keystore", key, "-storepass", "android"],
            ["-alias", "debug", "-keyalg", "RSA", "-keysize", 2048, "-validity", 10000],
            ["-dname", "CN=Android Debug"],
        )
    return key


def _jar(prefix: str) -> Path:
    return next(path for path in sorted(JARS.iterdir()) if path.name.startswith(prefix))


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise BuildError(f"There is no program {name}: install it (see the top of {__file__}).")
    return path


def _run(*parts: list, show: bool = False) -> None:
    """Runs a program; what it prints is shown only where it fails, unless `show`."""
    command = [str(word) for part in parts for word in part]
    done = subprocess.run(
        command, stdout=None if show else subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        output = f":\n{done.stdout}" if done.stdout else "."
        raise BuildError(f"{Path(command[0]).name} ended with {done.returncode}{output}")


if __name__ == "__main__":
    main()
