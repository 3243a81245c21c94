"""The child process that decodes one untrusted picture.

`sandbox` calls its `main`, with the request as JSON, behind the fences. It runs with bounds on memory,
time and files (`limited_child`), and imports next to nothing.
"""

from __future__ import annotations

import contextlib
import json
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.contract.errors import ErrorCode, IntakeError, ParamValue

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class _PictureRequest:
    source: str
    destination: str
    original: str
    format: str
    max_pixels: int
    max_side: int
    min_side: int
    background: str


def _normalise_picture(request: _PictureRequest) -> dict[str, int]:
    """Decode, turn upright, scale, pad to even sides and write; runs in the limited child."""
    from PIL import Image, ImageOps

    # Our own check below comes before any pixel is decoded and has a better sentence.
    Image.MAX_IMAGE_PIXELS = None
    if request.format == "HEIF":
        # The only decoder that Pillow does not bring itself.
        import pi_heif

        pi_heif.options.DECODE_THREADS = 1
        pi_heif.register_heif_opener(thumbnails=False)
    with Image.open(request.source, formats=(request.format,)) as picture:
        width, height = picture.size
        if width * height > request.max_pixels:
            raise IntakeError(
                ErrorCode.FILE_TOO_LARGE,
                f"The picture has {width} x {height} pixels; at most {request.max_pixels} are "
                "allowed. Send a smaller copy.",
                {"width": width, "height": height, "max_pixels": request.max_pixels},
            )
        if min(width, height) < request.min_side:
            raise IntakeError(
                ErrorCode.FACE_TOO_SMALL,
                f"The picture has {width} x {height} pixels, so no face in it can have the "
                f"{request.min_side} pixels that are needed. Send a larger picture.",
                {"width": width, "height": height, "min_face_px": request.min_side},
            )
        bound = (request.max_side, request.max_side)
        if picture.mode in ("RGB", "RGBA", "L", "LA", "CMYK"):
            # Shrunk first, the steps below cost little; the gap lets a JPEG be decoded at a
            # fraction of its size.
            picture.thumbnail(bound, Image.Resampling.LANCZOS, reducing_gap=3.0)
        rgb = _to_srgb(ImageOps.exif_transpose(picture), request.background)
    if request.original and max(width, height) > request.max_side:
        with Image.open(request.source, formats=(request.format,)) as picture:
            whole = _to_srgb(ImageOps.exif_transpose(picture), request.background)
        # A face that is small in it is cut out of this one; as PNG it would have ten times the bytes.
        whole.save(request.original, format="JPEG", quality=95, subsampling=0)
    rgb.thumbnail(bound, Image.Resampling.LANCZOS)
    even = _pad_to_even(rgb)
    # Runs only: a third faster than matching strings on grain, and smaller on smooth pictures.
    even.save(request.destination, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return {"width": even.width, "height": even.height}


def _to_srgb(picture: Image.Image, background: str) -> Image.Image:
    """Any mode and colour profile to 8-bit sRGB; the background is behind transparent parts."""
    import io

    from PIL import Image, ImageCms

    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # 16-bit greys: convert() would clip everything above 255 to white.
        picture = picture.convert("I").point(lambda level: level / 257).convert("L")
        profile = None
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        picture = Image.new("RGBA", layered.size, background)
        picture.alpha_composite(layered)
    if profile and picture.mode in ("RGB", "RGBA", "CMYK"):
        # Phones write Display P3; read as sRGB, faces turn pale. A broken profile is no reason to
        # refuse a picture.
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            flat = picture.convert("RGB") if picture.mode == "RGBA" else picture
            converted = ImageCms.profileToProfile(
                flat,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
            if converted is not None:
                picture = converted
    rgb = picture.convert("RGB")
    # What is left in `info` (profile, comment, EXIF) must not reach the new file.
    rgb.info = {}
    return rgb


def _pad_to_even(picture: Image.Image) -> Image.Image:
    """Repeat the last column and row where a side is odd: x264 refuses odd sides."""
    from PIL import Image

    width, height = picture.size
    if width % 2 == 0 and height % 2 == 0:
        return picture
    even = Image.new("RGB", (width + width % 2, height + height % 2))
    even.paste(picture, (0, 0))
    if width % 2:
        even.paste(picture.crop((width - 1, 0, width, height)), (width, 0))
    if height % 2:
        even.paste(even.crop((0, height - 1, even.width, height)), (0, height))
    return even


def main(arguments: Sequence[str]) -> int:
    """Answer on standard output: the size as JSON, or an intake error as JSON."""
    request = _PictureRequest(**json.loads(arguments[0]))
    try:
        answer: dict[str, object] = {**_normalise_picture(request)}
    except IntakeError as error:
        params: dict[str, ParamValue] = error.params
        answer = {"code": error.code.value, "detail": error.detail, "params": params}
    sys.stdout.write(json.dumps(answer))
    return 0
