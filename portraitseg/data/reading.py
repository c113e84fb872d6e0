"""Photos and masks from files as people really have them: converted with a note, or refused with a reason."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from portraitseg.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

#: Greatest number of pixels that is decoded: 50 megapixels are 150 MB; more does not come from a phone's portrait mode.
MAX_PIXELS = 50_000_000

_EXIF_ORIENTATION = 0x0112


def read_image(path: Path) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Reads a photo as RGB.

    Returns:
        image (h, w, 3), and notes on what was converted: grayscale, alpha, 16 bit, CMYK, EXIF rotation, animation.

    Raises:
        InputError: missing, empty, truncated, not an image, or too large.
    """
    image, notes = _open(path, "photo")
    if image.mode not in ("RGB", "L", "1") and "16 bit" not in notes:
        notes.append({"RGBA": "alpha dropped", "LA": "alpha dropped", "P": "palette"}.get(image.mode, image.mode))
    if image.mode in ("L", "LA", "1", "F") or image.mode.startswith("I"):
        notes.append("grayscale")
    if "16 bit" in notes and image.mode != "RGB":
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return np.asarray(image.convert("RGB")), tuple(f"photo: {note}" for note in notes)


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
    elif "16 bit" in notes:
        mask = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    else:
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


def odd_mask(mask: UInt8[np.ndarray, "h w"]) -> list[str]:
    """Notes on a mask that shows nobody, or nothing else."""
    if not (mask > 127).any():
        return ["all black"]
    return ["all white"] if (mask > 127).all() else []


def _open(path: Path, what: str) -> tuple[Image.Image, list[str]]:
    notes: list[str] = []
    try:
        with path.open("rb") as file:
            header = file.read(32)
            if not header:
                raise InputError(f"{what} {path}: the file is empty: replace it or take it out")
            file.seek(0)
            image: Image.Image = Image.open(file)
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{what} {path}: {image.width}x{image.height} is over {MAX_PIXELS // 10**6} megapixels: reduce it"
                )
            if getattr(image, "n_frames", 1) > 1:
                notes.append("animated, first frame taken")
            # a PNG of 16 bits per channel says so in byte 24 of its header; Pillow shows some of them as plain RGB
            if image.mode.startswith("I") or (header.startswith(b"\x89PNG") and header[24] == 16):
                notes.append("16 bit")
            image.load()
            if image.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1):
                image = ImageOps.exif_transpose(image)
                notes.append("EXIF rotation")
            return image, notes
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{what} {path}: no such file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{what} {path}: not an image that can be read (jpg, png or webp expected)") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{what} {path}: over {MAX_PIXELS // 10**6} megapixels: reduce it") from error
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"{what} {path}: truncated or damaged ({error}): replace it or take it out") from error
