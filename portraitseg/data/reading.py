"""Photos and masks from files as people really have them: converted with a note, or refused with a reason."""

import importlib
import struct
import warnings
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError, features

from portraitseg import files
from portraitseg.contract import MASK_THRESHOLD
from portraitseg.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

#: How photos of other formats are read, if at all.
_PLUGINS = {".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF"}

#: Brands of an ISO container (bytes 8 to 12) that are photos.
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF"}

#: What a command that segments photos looks at: those and what phones save, whether a plugin reads it here or not.
PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, *_PLUGINS)

#: Greatest number of pixels that is decoded: 50 megapixels are 150 MB; more does not come from a phone's portrait mode.
MAX_PIXELS = 50_000_000

#: What Pillow may take a file for, whatever its name says. It knows forty more, and hands EPS to Ghostscript, which
#: would run a stranger's PostScript.
_FORMATS = ("JPEG", "PNG", "WEBP")

#: Pillow answers a damaged file with whatever its parsers run into.
DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_EXIF_ORIENTATION = 0x0112

#: EXIF orientation → what shows the photo upright. Not `ImageOps.exif_transpose`: it also writes the EXIF block anew,
#: and fails on photos whose block has an odd entry anywhere.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ROTATION = "EXIF rotation"

#: The note of a photo that was turned.
ROTATED = f"photo: {_ROTATION}"

#: Those that exchange width and height.
_SWAPPING = (5, 6, 7, 8)

_MODE_NOTES = {
    "L": "grayscale",
    "1": "grayscale",
    "LA": "grayscale with alpha",
    "RGBA": "alpha dropped",
    "P": "palette",
}

# what Pillow warns of, we either convert with a note or refuse; its own lines would come between
warnings.filterwarnings("ignore", module=r"PIL\.")


@cache
def _plugins() -> dict[str, str]:
    """Suffix → Pillow's name of the format, of what this installation reads beyond JPEG, PNG and WebP."""
    readable = {".avif"} if features.check("avif") else set()
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
        readable |= {".heic", ".heif"}
    except ImportError:
        pass
    return {suffix: _PLUGINS[suffix] for suffix in sorted(readable)}


def image_suffixes() -> tuple[str, ...]:
    """Of photos that can be read here, in lower case."""
    return (*IMAGE_SUFFIXES, *_plugins())


def how_to_read(suffix: str) -> str:
    """What the user can do about a photo in a format that is not read."""
    if suffix.lower() in (".heic", ".heif"):
        return "save it as JPEG (upright), or `pip install pillow-heif`, with which HEIC is read"
    return "save it as JPEG or PNG"


def read_image(path: Path) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Reads a photo as RGB.

    Returns:
        image (h, w, 3), and notes on what was converted: grayscale, alpha, 16 bit, CMYK, EXIF rotation, animation.

    Raises:
        InputError: missing, empty, truncated, not an image, or too large.
    """
    image, notes = open_upright(path, "photo")
    if image.mode.startswith("I"):
        notes[notes.index("16 bit")] = "16-bit grayscale"
        image = Image.fromarray(high_bytes(image))
    elif image.mode != "RGB":
        notes.append(_MODE_NOTES.get(image.mode, image.mode))
    return np.asarray(image.convert("RGB")), tuple(f"photo: {note}" for note in notes)


def check_same_size(
    image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h2 w2"], path: Path, photo: Path | None = None
) -> None:
    """Refuses a mask of another size than its photo; `path` is the mask's, `photo` the photo's.

    Raises:
        InputError: with both sizes, and whether the photo's EXIF rotation explains them.
    """
    if mask.shape == image.shape[:2]:
        return
    sizes = f"mask {path}: {mask.shape[1]}x{mask.shape[0]}, its photo is {image.shape[1]}x{image.shape[0]}"
    if photo is not None and mask.shape == image.shape[1::-1] and (value := orientation(photo)) in _SWAPPING:
        raise InputError(
            f"{sizes} once turned as its EXIF says (orientation {value}), and as large as the mask before: it was "
            "drawn on the unturned photo: turn it likewise (`python -m train check-data --fix OUT` writes a copy), or "
            "take the EXIF out of the photo"
        )
    raise InputError(f"{sizes}: give both the same size")


def turn(mask: UInt8[np.ndarray, "h w"], value: int) -> UInt8[np.ndarray, "h2 w2"]:
    """A mask turned as a photo of this EXIF orientation is."""
    how = _UPRIGHT.get(value)
    return mask if how is None else np.asarray(Image.fromarray(mask).transpose(how))


def orientation(path: Path) -> int:
    """What a photo's EXIF says of its rotation, 1 to 8; 1 where it says nothing."""
    try:
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except (*DAMAGED, RecursionError, UnidentifiedImageError):
        return 1


def explain(error: OSError) -> str:
    """`files.explain` for a file that is read: its own permissions are what is wrong, and no other can be chosen."""
    if isinstance(error, PermissionError):
        return "no permission to read it: change its permissions (or its folder's), or take it out"
    return files.explain(error)


def odd_mask(mask: UInt8[np.ndarray, "..."]) -> list[str]:
    """Notes on a mask that shows nobody, or nothing else."""
    if not (mask > MASK_THRESHOLD).any():
        return ["all black"]
    return ["all white"] if (mask > MASK_THRESHOLD).all() else []


def high_bytes(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    """The upper 8 of 16 bits."""
    return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)


def open_upright(path: Path, what: str) -> tuple[Image.Image, list[str]]:
    """Decodes a photo or a mask (`what`, for messages) and turns it as its EXIF says; and notes on what was odd.

    Raises:
        InputError: missing, empty, truncated, not an image, or too large.
    """
    try:
        # a pipe of this name would be waited for
        if not path.is_file():
            fault = "not a file: take it out" if path.exists() else "no such file: add it or take it out of the list"
            raise InputError(f"{what} {path}: {fault}")
        with path.open("rb") as file:
            header = file.read(32)
            if not header:
                raise InputError(f"{what} {path}: the file is empty: replace it or take it out")
            file.seek(0)
            image: Image.Image = Image.open(file, formats=(*_FORMATS, *dict.fromkeys(_plugins().values())))
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{what} {path}: {image.width}x{image.height} is over {MAX_PIXELS // 10**6} megapixels: reduce it"
                )
            notes = _frame_notes(image)
            # a PNG of 16 bits per channel says so in byte 24 of its header; Pillow shows some of them as plain RGB
            if image.mode.startswith("I") or (header.startswith(b"\x89PNG") and header[24] == 16):
                notes.append("16 bit")
            image.load()
            return _turn_upright(image, notes), notes
    except InputError:
        raise
    except UnidentifiedImageError as error:
        if (brand := _BRANDS.get(header[8:12])) is not None and header[4:8] == b"ftyp":
            remedy = how_to_read(f".{brand}") if path.suffix.lower() not in _plugins() else "replace it or take it out"
            raise InputError(f"{what} {path}: {brand} that cannot be read, by its content: {remedy}") from error
        raise InputError(f"{what} {path}: not a jpg, png or webp image: save it as one, or take it out") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{what} {path}: over {MAX_PIXELS // 10**6} megapixels: reduce it") from error
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{what} {path}: {explain(error)}") from error
        raise InputError(f"{what} {path}: truncated or damaged ({error}): replace it or take it out") from error


def _frame_notes(image: Image.Image) -> list[str]:
    if getattr(image, "n_frames", 1) <= 1:
        return []
    # phones put the depth or a brighter copy behind the photo (multi-picture JPEG)
    return ["several pictures, first taken" if image.format == "MPO" else "animated, first frame taken"]


def _turn_upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except (*DAMAGED, RecursionError):
        notes.append("EXIF damaged, rotation unknown")
        return image
    if turn is None:
        return image
    notes.append(_ROTATION)
    return image.transpose(turn)
