"""Photos and masks from files as people really have them: converted with a note, or refused with a reason."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError, features

from portraitseg import files
from portraitseg.contract import MASK_THRESHOLD
from portraitseg.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

#: What a command that segments photos takes beside those: what phones save. HEIC needs Pillow's plugin pillow-heif.
HEIF_SUFFIXES = (".heic", ".heif")
PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".avif", *HEIF_SUFFIXES)

#: Greatest number of pixels that is decoded: 50 megapixels are 150 MB; more does not come from a phone's portrait mode.
MAX_PIXELS = 50_000_000

#: What Pillow may take a file for, whatever its name says. It knows forty more, and hands EPS to Ghostscript, which
#: would run a stranger's PostScript.
_FORMATS = ("JPEG", "PNG", "WEBP")

#: Pillow answers a damaged file with whatever its parsers run into.
_DAMAGED = (
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

_MODE_NOTES = {
    "L": "grayscale",
    "1": "grayscale",
    "LA": "grayscale with alpha",
    "RGBA": "alpha dropped",
    "P": "palette",
}

# what Pillow warns of, we either convert with a note or refuse; its own lines would come between
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image(path: Path) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Reads a photo as RGB.

    Returns:
        image (h, w, 3), and notes on what was converted: grayscale, alpha, 16 bit, CMYK, EXIF rotation, animation.

    Raises:
        InputError: missing, empty, truncated, not an image, or too large.
    """
    return _to_rgb(*_open(path, "photo"))


def _to_rgb(image: Image.Image, notes: list[str]) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    if image.mode.startswith("I"):
        notes[notes.index("16 bit")] = "16-bit grayscale"
        image = Image.fromarray(_high_bytes(image))
    elif image.mode != "RGB":
        notes.append(_MODE_NOTES.get(image.mode, image.mode))
    return np.asarray(image.convert("RGB")), tuple(f"photo: {note}" for note in notes)


def read_photo(path: Path) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """As `read_image`, and .avif and .heic too, where Pillow has what reads them.

    Raises:
        InputError: as `read_image`; a format whose plugin is not installed, with its name.
    """
    suffix = path.suffix.lower()
    if suffix == ".avif" and not features.check("avif"):
        raise InputError(f"photo {path}: this Pillow reads no AVIF: pip install --upgrade pillow, or save it as a jpg")
    if suffix in HEIF_SUFFIXES:
        try:
            import pillow_heif
        except ImportError as error:
            raise InputError(
                f"photo {path}: HEIC needs a plugin: pip install pillow-heif, or save it as a jpg"
            ) from error
        pillow_heif.register_heif_opener()
        return _to_rgb(*_open(path, "photo", (*_FORMATS, "HEIF")))
    return _to_rgb(*_open(path, "photo", (*_FORMATS, "AVIF")))


def read_mask(path: Path) -> tuple[UInt8[np.ndarray, "h w"], tuple[str, ...]]:
    """Reads a mask as 8-bit alpha; 0/1 masks are scaled to 0/255.

    Returns:
        mask (h, w), and notes on what was converted or looks odd (all-black, all-white).

    Raises:
        InputError: as `read_image`.
    """
    image, notes = _open(path, "mask")
    if image.mode == "P":
        # a palette's indices are the labels; its colours are decoration
        mask = np.asarray(image)
        notes.append("palette, its indices taken")
    elif image.mode.startswith("I"):
        values = np.asarray(image)
        # labels that were merely stored in 16 bits
        mask = values.astype(np.uint8) if values.max(initial=0) <= 255 else _high_bytes(image)
    else:
        if image.mode not in ("L", "1"):
            notes.append(f"{image.mode}, its brightness taken")
        mask = np.asarray(image.convert("L"))
    if mask.max(initial=0) == 1:
        mask = mask * np.uint8(255)
        notes.append("values 0/1")
    return mask, tuple(f"mask: {note}" for note in [*notes, *odd_mask(mask)])


def check_same_size(image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h2 w2"], path: Path) -> None:
    """Refuses a mask of another size than its photo; `path` is the mask's.

    Raises:
        InputError: with both sizes.
    """
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"mask {path}: {mask.shape[1]}x{mask.shape[0]}, its photo is {image.shape[1]}x{image.shape[0]}: "
            "give both the same size"
        )


def explain(error: OSError) -> str:
    """`files.explain` for a file that is read: its own permissions are what is wrong, and no other can be chosen."""
    if isinstance(error, PermissionError):
        return "no permission to read it: change its permissions (or its folder's), or take it out"
    return files.explain(error)


def odd_mask(mask: UInt8[np.ndarray, "h w"]) -> list[str]:
    """Notes on a mask that shows nobody, or nothing else."""
    if not (mask > MASK_THRESHOLD).any():
        return ["all black"]
    return ["all white"] if (mask > MASK_THRESHOLD).all() else []


def _high_bytes(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)


def _open(path: Path, what: str, formats: tuple[str, ...] = _FORMATS) -> tuple[Image.Image, list[str]]:
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
            image: Image.Image = Image.open(file, formats=formats)
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
        raise InputError(f"{what} {path}: not a jpg, png or webp image: save it as one, or take it out") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{what} {path}: over {MAX_PIXELS // 10**6} megapixels: reduce it") from error
    except _DAMAGED as error:
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
    except (*_DAMAGED, RecursionError):
        notes.append("EXIF damaged, rotation unknown")
        return image
    if turn is None:
        return image
    notes.append("EXIF rotation")
    return image.transpose(turn)
