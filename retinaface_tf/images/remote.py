"""Images given as an address (http, https) or as a data URI, not as a file."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import http.client
import ipaddress
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin, urlsplit

from retinaface_tf.errors import ImageError, first_line
from retinaface_tf.images.decode import UnreadableError

LARGEST_BYTES = 100 << 20
LONGEST_SECONDS = 60.0
_MAX_REDIRECTS = 5
# Of one address; a host may have several.
_CONNECT_SECONDS = 10.0
_SCHEMES = {"http": 80, "https": 443}
# IPv6 addresses whose last 32 bits are an IPv4 address (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_remote(name: str) -> bool:
    """Whether a name is an http or https address, or a data URI."""
    return re.match(r"(https?://|data:)", name, re.IGNORECASE) is not None


class RemoteImage(os.PathLike[str]):
    """An image at an address, fetched when it is read; or a data URI.

    Args:
        address: http://..., https://... or data:...
        allow_private: also hosts of the own machine and network. Without, an address that others
            wrote cannot make this machine ask them.
        kept: fetch it once, and hold its bytes.
    """

    def __init__(self, address: str, *, allow_private: bool = False, kept: bool = False):
        self.address, self._allow_private, self._kept = address, allow_private, kept
        self._content: bytes | None = None

    def __fspath__(self) -> str:
        """What messages and lines call it: the address, a short name for a data URI."""
        if self.address[:5].lower() != "data:":
            return self.address
        kind = self.address[5:].partition(",")[0].partition(";")[0] or "text/plain"
        return f"data:{kind[:40]}#{hashlib.sha256(self.address.encode()).hexdigest()[:12]}"

    @property
    def name(self) -> Path:
        """A file's name for what is made of it."""
        path = urlsplit(os.fspath(self)).path if "://" in self.address else os.fspath(self)
        last = re.sub(r"[^\w. ()-]", "_", unquote(path).rstrip("/").rpartition("/")[2]).strip(". ")
        return Path(last or "image")

    def kept(self) -> RemoteImage:
        """The same, which is fetched once."""
        return RemoteImage(self.address, allow_private=self._allow_private, kept=True)

    def content(self) -> bytes:
        """The bytes of the file.

        Raises:
            UnreadableError: the address does not answer with them, in time and within 100 MiB.
        """
        if self._content is not None:
            return self._content
        if self.address[:5].lower() == "data:":
            content = _data(self.address)
        else:
            content = _fetch(self.address, self._allow_private)
        if self._kept:
            self._content = content
        return content


def _data(uri: str) -> bytes:
    head, comma, text = uri.partition(",")
    if not comma:
        raise UnreadableError("it is not a data URI: data:image/jpeg;base64,...")
    content = unquote_to_bytes(text)
    if not head.lower().endswith(";base64"):
        return content
    try:
        padded = b"".join(content.split()).rstrip(b"=")
        return base64.b64decode(padded + b"=" * (-len(padded) % 4), validate=True)
    except binascii.Error:
        raise UnreadableError("its base64 is damaged") from None


def _fetch(address: str, allow_private: bool) -> bytes:
    """The body of the answer, behind at most five redirects; one time limit for all."""
    end = time.monotonic() + LONGEST_SECONDS
    for _ in range(_MAX_REDIRECTS + 1):
        target = _get(address, allow_private, max(end - time.monotonic(), 0.1))
        if isinstance(target, bytes):
            return target
        address = urljoin(address, target)
    raise UnreadableError(f"it leads to more than {_MAX_REDIRECTS} other addresses")


def _get(address: str, allow_private: bool, seconds: float) -> bytes | str:
    """The body, or where the address leads to."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or _SCHEMES[parts.scheme]
    except (KeyError, ValueError):
        raise UnreadableError(f"{address[:200]} is not an http or https address") from None
    if not host:
        raise UnreadableError("the address names no host")
    late = threading.Event()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_in_sentences(late))
        stream = stack.enter_context(_connect(host, port, allow_private))
        stack.enter_context(_time_limit(stream, seconds, late))
        if parts.scheme == "https":
            context = ssl.create_default_context()
            stream = stack.enter_context(context.wrap_socket(stream, server_hostname=host))
        # The connection asks nobody for an address: it has the socket of the checked one.
        connection = http.client.HTTPConnection(host, port)
        connection.sock = stream
        query = f"?{parts.query}" if parts.query else ""
        path = quote(f"{parts.path or '/'}{query}", safe="/?%:@!$&'()*+,;=~[]-._")
        port_of_name = "" if port == _SCHEMES[parts.scheme] else f":{port}"
        name = f"[{host}]" if ":" in host else host
        headers = {
            "Host": name.encode("idna").decode() + port_of_name,
            "Accept": "image/*",
            "Accept-Encoding": "identity",
            "User-Agent": "retinaface-tf",
            "Connection": "close",
        }
        connection.request("GET", path, headers=headers)
        answer = _answer(connection.getresponse())
        if late.is_set():  # of an answer without a length the end was taken for its own
            raise OSError
        return answer


@contextlib.contextmanager
def _time_limit(stream: socket.socket, seconds: float, late: threading.Event) -> Iterator[None]:
    """Ends the connection after so many seconds, however slowly it goes on."""
    own = stream.dup()  # TLS takes the other over

    def stop() -> None:
        late.set()
        with contextlib.suppress(OSError):
            own.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        own.close()


@contextlib.contextmanager
def _in_sentences(late: threading.Event) -> Iterator[None]:
    """What goes wrong, as an `UnreadableError`."""
    try:
        yield
    except UnreadableError:
        raise
    except TimeoutError:
        raise UnreadableError("the server does not answer in time; try again later") from None
    except ssl.SSLCertVerificationError as error:
        raise UnreadableError(f"its certificate is not valid, {error.verify_message}") from None
    except http.client.IncompleteRead:
        raise UnreadableError("the connection ended before the image did") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        if late.is_set():
            raise UnreadableError(f"it took more than {LONGEST_SECONDS:.0f} seconds") from None
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UnreadableError(f"the connection failed, {reason.rstrip('.')}") from None


def _answer(response: http.client.HTTPResponse) -> bytes | str:
    where = response.getheader("Location")
    if response.status in (301, 302, 303, 307, 308) and where:
        return where
    if response.status != 200:
        raise UnreadableError(f"the server answers {response.status} {response.reason}".rstrip())
    if response.length is not None and response.length > LARGEST_BYTES:
        raise UnreadableError(f"it has more than {LARGEST_BYTES >> 20} MiB")
    content = response.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise UnreadableError(f"it has more than {LARGEST_BYTES >> 20} MiB")
    if response.length:  # what is missing of the length that was announced
        raise UnreadableError("the connection ended before the image did")
    return content


def _connect(host: str, port: int, allow_private: bool) -> socket.socket:
    """A connection to an address of the host that was looked at: a name server may say another the
    second time."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UnreadableError(f"the host {host} is not found") from None
    failure: OSError | None = None
    private = []
    for family, kind, protocol, _, place in found:
        if not allow_private and not _is_public(str(place[0])):
            private.append(str(place[0]))
            continue
        stream = socket.socket(family, kind, protocol)
        try:
            stream.settimeout(_CONNECT_SECONDS)
            stream.connect(place)
            return stream
        except OSError as error:
            stream.close()
            failure = error
    if failure is not None:
        raise failure
    raise UnreadableError(_refused(host, list(dict.fromkeys(private))))


def require_public(address: str) -> None:
    """Refuses an http address of the own network, for readers that connect by themselves.

    Raises:
        ImageError: the host is in the own network, or is not found.
    """
    host = urlsplit(address).hostname or ""
    try:
        places = {str(place[4][0]) for place in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        raise ImageError(f"Cannot read {address}: the host {host} is not found.") from None
    if private := sorted(place for place in places if not _is_public(place)):
        raise ImageError(f"Cannot read {address}: {_refused(host, private)}.")


def _refused(host: str, private: list[str]) -> str:
    return f"{host} is in the own network ({', '.join(private)}); --allow-private reads from there"


def _is_public(address: str) -> bool:
    place = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(place, ipaddress.IPv6Address):
        inner = place.ipv4_mapped or place.sixtofour
        if place in _NAT64:
            inner = ipaddress.IPv4Address(int(place) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(str(inner))
    return place.is_global and not place.is_multicast
