"""The files that make a server private: certificate, key and token."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from retinaface_tf.errors import ConfigError

if TYPE_CHECKING:
    import grpc


class Tls(NamedTuple):
    """What gRPC and HTTP need to speak TLS."""

    grpc: grpc.ServerCredentials
    http: ssl.SSLContext


def read_tls(certificate: Path | None, key: Path | None) -> Tls | None:
    """A PEM certificate and its private key; None without both.

    Raises:
        ConfigError: only one is given, a file is missing, or they are not a pair.
    """
    if (certificate is None) != (key is None):
        raise ConfigError("Give both --tls-certificate and --tls-key, or neither.")
    if certificate is None or key is None:
        return None
    chain, secret = _read(certificate, "--tls-certificate"), _read(key, "--tls-key")
    if b"PRIVATE KEY-----" in chain and b"PRIVATE KEY-----" not in secret:
        raise ConfigError(
            f"{certificate} is a key and {key} is none; swap --tls-certificate and --tls-key."
        )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password, OpenSSL would ask at the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"{certificate} and {key} are not a PEM certificate and its unencrypted private key "
            f"({reason}); give the two files that belong together."
        ) from None
    import grpc

    return Tls(grpc.ssl_server_credentials([(secret, chain)]), context)


def read_token(path: Path | None) -> str | None:
    """The token in a file, less white space around it; None without a file.

    Raises:
        ConfigError: the file is missing, or holds no token that fits a header.
    """
    if path is None:
        return None
    token = _read(path, "--auth-token-file").strip()
    if not token or not all(33 <= letter <= 126 for letter in token):
        raise ConfigError(
            f"{path} must hold one token of printable ASCII without spaces; "
            "`openssl rand -hex 32` makes one."
        )
    return token.decode()


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read {option} {path}: {error.strerror}.") from None
