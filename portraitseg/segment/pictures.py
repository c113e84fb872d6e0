"""What becomes of a segmented picture: the five outputs, and how photos of them are written."""

import io
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor

from portraitseg import contract, files
from portraitseg.data.reading import read_image
from portraitseg.errors import InputError
from portraitseg.segment.segmenter import Segmentation

Output = Literal["mask", "alpha", "cutout", "blur", "replace"]
OUTPUTS: tuple[Output, ...] = ("mask", "alpha", "cutout", "blur", "replace")

#: What a photo's result is saved as where only a folder is named: without loss where every value counts.
SUFFIXES: dict[Output, str] = {"mask": ".png", "alpha": ".png", "cutout": ".png", "blur": ".jpg", "replace": ".jpg"}

#: Suffix → format, of what can be saved.
WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

#: Pixels that a side may have in these formats.
_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}

#: Of JPEG and WebP; the usual one of cameras.
_QUALITY = 95

Background = tuple[int, int, int] | UInt8[np.ndarray, "h w 3"]


def render(segmented: Segmentation, output: Output, background: Background | None = None) -> UInt8[np.ndarray, "..."]:
    """The picture of an output: (h, w) for `mask` and `alpha`, (h, w, 4) for `cutout`, else (h, w, 3).

    Args:
        segmented: the segmented picture.
        output: which.
        background: for `replace`.
    """
    if output == "mask":
        return np.where(segmented.mask, np.uint8(255), np.uint8(0))
    if output == "alpha":
        return contract.probability_to_bytes(segmented.alpha)
    if output == "cutout":
        return segmented.cutout()
    if output == "blur":
        return segmented.blur()
    assert background is not None
    return segmented.over(background)


def parse_background(text: str) -> Background:
    """`#rrggbb`, a colour's name or a picture's path.

    Raises:
        InputError: none of them, or a picture that cannot be read.
    """
    if Path(text).is_file():
        return read_image(Path(text))[0]
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise InputError(f"--background {text}: neither a picture nor a colour such as #00ff00 or white") from error
    return red, green, blue


def check_suffix(path: Path, output: Output) -> None:
    """Whether a photo's result can be saved under a name.

    Raises:
        InputError: an unknown suffix, or one that has no room for the output.
    """
    if path.suffix.lower() not in WRITTEN:
        raise InputError(
            f"--out {path}: save a photo's result as {', '.join(WRITTEN)}, or name a folder (one with a dot in its "
            "name is made first)"
        )
    if path.suffix.lower() in (".jpg", ".jpeg") and output in ("mask", "alpha", "cutout"):
        kind = "has no transparency" if output == "cutout" else "changes the values of a mask"
        raise InputError(f"--out {path}: a .jpg {kind}: name a .png or .webp")


def write(path: Path, pixels: UInt8[np.ndarray, "..."], profile: bytes | None = None) -> None:
    """Writes a picture atomically, in the format of its suffix; `profile` is the colour profile of its pixels.

    Raises:
        InputError: more pixels than the format has room for, a full or read-only disk.
    """
    kind = WRITTEN[path.suffix.lower()]
    if (side := max(pixels.shape[:2])) > _LONGEST.get(kind, side):
        raise InputError(f"{path}: {side} pixels, and a {kind} has at most {_LONGEST[kind]}: name a .png with --out")
    stream = io.BytesIO()
    options: dict[str, object] = {"icc_profile": profile} if profile and pixels.ndim == 3 else {}
    if kind == "WEBP":
        options |= {"lossless": True} if pixels.ndim == 2 or pixels.shape[2] == 4 else {"quality": _QUALITY}
    if kind == "JPEG":
        options |= {"quality": _QUALITY, "subsampling": 0}
    Image.fromarray(pixels).save(stream, kind, **options)
    files.write_bytes(path, stream.getvalue())


def color_profile(path: Path) -> bytes | None:
    """The ICC profile of an RGB photo, which its cut-out needs too: phones save Display P3, not sRGB."""
    try:
        with Image.open(path) as image:
            profile = image.info.get("icc_profile")
            return profile if image.mode in ("RGB", "RGBA") and isinstance(profile, bytes) else None
    except (OSError, ValueError, SyntaxError):
        return None
