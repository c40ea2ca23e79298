"""Images of known faces, as encoded bytes and in tars."""

import io
import tarfile

from PIL import Image

from tests.helpers.bright_pixel import black_image


def encoded(number):
    """A PNG of 64x(64 + number) pixels with number % 3 faces."""
    cells = [(2, 2), (2, 5)][: number % 3]
    stream = io.BytesIO()
    Image.fromarray(black_image(64, 64 + number, *cells)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path, names, mode="w"):
    """A tar of members by name: "1.png" is `encoded(1)`, other suffixes are no images."""
    with tarfile.open(path, mode) as tar:
        for name in names:
            content = encoded(int(name[0])) if name.endswith(".png") else b"{}"
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
