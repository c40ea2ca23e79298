"""A photo's file written again with other pixels: its format, quality and facts stay, previews do not."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin

from retinaface_tf.errors import ImageError
from retinaface_tf.images import decode as decoding
from retinaface_tf.images.read import ImageSource, describe_source, file_content, read_image
from retinaface_tf.images.remote import RemoteImage

# Of EXIF's first directory what says when, where and by what a photo was taken. Others may hold a
# preview of the photo, XMP, or how its old file was laid out.
_FACTS = (
    *("ImageDescription", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit"),
    *("Software", "DateTime", "Artist", "HostComputer", "Copyright", "ExifOffset", "GPSInfo"),
    *("XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject"),
)
_TIFF_COMPRESSIONS = ("raw", "tiff_lzw", "packbits", "jpeg", "zstd", "lzma", "webp")
# Frames are held at once.
_MAX_PIXELS_OF_FRAMES = 256_000_000


class PhotoFile:
    """A photo, or each frame of an animated one and each page of a TIFF.

    Args:
        source: a path, encoded bytes or a binary file.

    Attributes:
        frames: RGB uint8 [H, W, 3], upright; transparency is laid on white.
        suffix: ".jpg" and the like, of the format that is written.

    Raises:
        ImageError: it is no image file, cannot be read, or has too many frames.
    """

    def __init__(self, source: ImageSource):
        name = describe_source(source)
        if isinstance(source, (np.ndarray, Image.Image)):
            raise ImageError(f"Cannot rewrite {name}: it is not an image file.")
        if isinstance(source, RemoteImage):
            source = source.kept()
        first = read_image(source)  # which says what is wrong with a file
        content = file_content(source)
        if content is None:
            raise ImageError(f"Cannot rewrite {name}: it is a pipe; write it to a file first.")
        image, self._kind = decoding.open_header(BytesIO(content))
        self._grey = image.mode in ("1", "L") or image.mode.startswith("I;16")
        self._lossless = b"VP8L" in content and b"VP8 " not in content  # of WebP
        count = getattr(image, "n_frames", 1)
        if count * image.width * image.height > max(_MAX_PIXELS_OF_FRAMES, first.size):
            raise ImageError(
                f"Cannot rewrite {name}: its {count} frames have too many pixels together; "
                "make a video of it."
            )
        if count > 1 and self._kind == "HEIC":
            raise ImageError(f"Cannot rewrite {name}: it holds {count} photos; save each as JPEG.")
        self.suffix = ".jpg" if self._kind in ("JPEG", "HEIC") else f".{self._kind.lower()}"
        self.frames, self._alphas, self._durations = [first], [], []
        with decoding.quiet_pillow:
            try:
                self._options = self._how_it_was_saved(image, first.shape[:2])
                for number in range(count):
                    if count > 1:
                        image.seek(number)
                    image.load()
                    turn = decoding.orientation(image)  # Pillow turns a TIFF as it loads it
                    if number:
                        self.frames.append(decoding.upright(decoding.rgb_pixels(image), turn))
                    self._durations.append(image.info.get("duration"))
                    self._alphas.append(
                        decoding.upright(np.asarray(image.convert("RGBA")), turn)
                        if image.has_transparency_data
                        else None
                    )
            except Exception as error:  # Pillow raises a dozen kinds
                raise ImageError(f"Cannot read {name}: frame {number} is damaged.") from error

    def encode(self, frames: list[NDArray[np.uint8]], facts: bool = True) -> bytes:
        """The file with these pixels in the place of `frames`; where they are the same, so is the file.

        HEIC becomes JPEG. Colours have 8 bits. EXIF's facts and the colour profile are kept;
        previews, maker notes and XMP, which may show what the pixels no longer do, are left out;
        without `facts` EXIF as a whole.
        """
        images = [self._as_stored(*trio) for trio in zip(frames, self.frames, self._alphas)]
        options = dict(self._options)
        if not facts:
            options.pop("exif", None)
        if images[1:]:
            options |= {"save_all": True, "append_images": images[1:]}
            if None not in self._durations:
                options["duration"] = self._durations
        content = BytesIO()
        kind = {"HEIC": "JPEG", "WebP": "WEBP"}.get(self._kind, self._kind)
        with decoding.quiet_pillow:
            images[0].save(content, kind, **options)
        return content.getvalue()

    def _as_stored(
        self, frame: np.ndarray, before: np.ndarray, transparent: np.ndarray | None
    ) -> Image.Image:
        """Pixels as the file has them: grey, or with its own transparency."""
        if transparent is not None:
            changed = (frame != before).any(axis=2, keepdims=True)
            colours = np.where(changed, frame, transparent[..., :3])
            return Image.fromarray(np.dstack([colours, transparent[..., 3]]))
        image = Image.fromarray(frame)
        return image.convert("L") if self._grey else image

    def _how_it_was_saved(self, image: Image.Image, size: tuple[int, int]) -> dict[str, Any]:
        info = image.info
        options: dict[str, Any] = {
            name: info[name] for name in ("dpi", "loop", "default_image") if name in info
        }
        if self._kind != "GIF" and (profile := info.get("icc_profile")) and image.mode != "CMYK":
            options["icc_profile"] = profile
        if self._kind != "GIF" and (facts := _facts(image, size)):
            options["exif"] = facts
        if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode != "CMYK":
            options |= {
                "qtables": image.quantization,
                "progressive": bool(info.get("progressive")),
            }
            if image.mode == "RGB":
                options["subsampling"] = JpegImagePlugin.get_sampling(image)
        elif self._kind == "JPEG":  # CMYK, whose colours are all at full size
            options["subsampling"] = 0
        elif self._kind == "TIFF":
            used = info.get("compression")
            options["compression"] = used if used in _TIFF_COMPRESSIONS else "tiff_deflate"
        elif self._kind == "GIF":
            options["disposal"] = 2
        elif self._lossless:
            options["lossless"] = True
        if "qtables" not in options and options.get("compression", "jpeg") == "jpeg":
            options["quality"] = 92
        return options


def _facts(image: Image.Image, size: tuple[int, int]) -> bytes:
    """EXIF as far as it is about the photo; it says nothing of the orientation: upright."""
    kept = Image.Exif()
    try:
        given = image.getexif()
        for name in _FACTS:
            tag = int(ExifTags.Base[name])
            if tag not in given:
                continue
            kept[tag] = given[tag]
            if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                kept[tag] = directory = dict(given.get_ifd(tag))
                directory.pop(ExifTags.Base.MakerNote, None)
                if ExifTags.Base.ExifImageWidth in directory:
                    directory[ExifTags.Base.ExifImageWidth] = size[1]
                    directory[ExifTags.Base.ExifImageHeight] = size[0]
        return kept.tobytes() if kept else b""
    except Exception:  # damaged EXIF must not cost the photo
        return b""
