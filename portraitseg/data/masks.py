"""What the values of a mask file mean: the setting `data.mask`, and how a file is read by it."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from portraitseg.contract import MASK_THRESHOLD
from portraitseg.data import reading
from portraitseg.errors import InputError
from portraitseg.mask_setting import BINARY, Meaning

#: The value that VOC, Cityscapes and their tools give to pixels that nobody is to be judged by, and VOC's colour of it.
IGNORE_ID = 255
IGNORE_COLOUR = 0xE0E0C0

#: A class id is at most this; a brightness that is meant as one is beyond (255 apart).
GREATEST_ID = 64

#: Least share of a photo's pixels, and of those that are not 0, that make a low value a class and not a soft outline.
_CLASS_SHARE, _CLASS_OF_LABELLED = 0.01, 0.10

#: Brightness of a pixel that is nearly all person; few data sets have as many classes.
_LEAST_CLEAR = 192

#: Rounding of JPEG around pure black, and how far its colours leave the grey axis.
_JPEG_NOISE = 8


Form = Literal["empty", "binary", "zero-one", "ids", "ids and 255", "three levels", "class map", "dim"]


@dataclass(frozen=True)
class MaskFile:
    """A mask as it lies on disk, upright.

    Attributes:
        values: brightness, or the indices of a palette that is not black and white.
        alpha: of the fourth channel; None where there is none.
        colours: RGB where the file has colours, a palette's included; None where all is grey.
        is_jpeg: whether values are rounded by JPEG.
        is_indexed: whether `values` are the indices of a palette, which has `colours` beside them.
        mode: Pillow's, where brightness would be one of several readings.
        notes: what was converted.
    """

    values: UInt8[np.ndarray, "h w"]
    alpha: UInt8[np.ndarray, "h w"] | None = None
    colours: UInt8[np.ndarray, "h w 3"] | None = None
    is_jpeg: bool = False
    is_indexed: bool = False
    mode: str = "L"
    notes: tuple[str, ...] = ()

    @cached_property
    def histogram(self) -> np.ndarray:
        """Pixels by value, 256 of them."""
        return np.bincount(self.values.ravel(), minlength=256)

    @property
    def has_cutout(self) -> bool:
        """Whether the fourth channel tells two parts of the photo apart."""
        return self.alpha is not None and bool(
            (self.alpha > MASK_THRESHOLD).any() and (self.alpha <= MASK_THRESHOLD).any()
        )

    @property
    def agrees(self) -> bool:
        """Whether the fourth channel and the brightness say the same."""
        return self.alpha is None or bool(((self.alpha > MASK_THRESHOLD) == (self.values > MASK_THRESHOLD)).all())


def open_mask(path: Path) -> MaskFile:
    """Reads a file as it is; what its values mean is not yet decided.

    Raises:
        InputError: as `reading.read_image`.
    """
    image, notes = reading.open_upright(path, "mask")
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    if is_jpeg:
        notes.append("JPEG, whose outline is not exact")
    if image.mode == "P" and "transparency" not in image.info:
        return _open_palette(image, notes)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        # labels that were merely stored in 16 bits
        small = values.astype(np.uint8) if values.max(initial=0) <= 255 else reading.high_bytes(image)
        return MaskFile(small, notes=tuple(notes))
    if image.mode in ("L", "1"):
        return MaskFile(np.asarray(image.convert("L")), is_jpeg=is_jpeg, notes=tuple(notes))
    rgba = np.asarray(image.convert("RGBA"))
    alpha = rgba[..., 3] if image.mode != "RGB" and rgba[..., 3].min() < 255 else None
    colours = np.ascontiguousarray(rgba[..., :3])
    grey = colours.max(axis=2) - colours.min(axis=2) <= (_JPEG_NOISE if is_jpeg else 0)
    return MaskFile(
        np.asarray(image.convert("L")),
        alpha,
        None if grey.all() else colours,
        is_jpeg,
        mode=image.mode,
        notes=tuple(notes),
    )


def _open_palette(image: Image.Image, notes: list[str]) -> MaskFile:
    indices = np.asarray(image)
    table = np.zeros((256, 3), np.uint8)
    flat = image.getpalette("RGB") or []
    table[: len(flat) // 3] = np.reshape(flat, (-1, 3))[:256]
    used = np.unique(indices)
    colours = table[used]
    is_black, is_white = (colours == 0).all(axis=1), (colours == 255).all(axis=1)
    is_grey = (colours == colours[:, :1]).all()
    if is_grey and is_white.any() and (is_black.any() or len(used) == 1):
        # black and white, in whatever order: a palette that was quantized from a picture has one by frequency
        notes.append("palette, read by its colours")
        return MaskFile(table[indices][..., 0], notes=tuple(notes))
    if is_black.any() and not is_black.all() and not is_black[0] and used[0] == 0:
        # index 0 is background wherever indices are classes, and black; here black is another one
        notes.append("palette, read by its colours")
        rgb = table[indices]
        return MaskFile(np.asarray(Image.fromarray(rgb).convert("L")), colours=rgb, notes=tuple(notes))
    # the indices are the labels; the colours are decoration
    notes.append("palette, its indices taken")
    has_colours = len(np.unique(colours, axis=0)) == len(used) and not is_grey
    return MaskFile(indices, colours=table[indices] if has_colours else None, is_indexed=True, notes=tuple(notes))


def form_of_histogram(histogram: np.ndarray, is_jpeg: bool = False) -> Form:
    """What kind of mask the values of a file look like, by themselves; `histogram` has 256 counts."""
    present = np.flatnonzero(histogram)
    greatest = int(present[-1])
    if greatest == 0 or (is_jpeg and greatest <= _JPEG_NOISE):
        return "empty"
    if greatest == 1:
        return "zero-one"
    between = present[(present > 0) & (present < 255)]
    if greatest <= MASK_THRESHOLD:
        return "ids" if len(present) <= GREATEST_ID and not is_jpeg else "dim"
    pixels, labelled = histogram.sum(), histogram[1:].sum()
    if len(between) == 0 or len(present) == 1:
        return "binary"
    most = int(histogram[between].max())
    is_class = most >= _CLASS_SHARE * pixels and most >= _CLASS_OF_LABELLED * labelled
    if is_class and not is_jpeg:
        if between[-1] <= GREATEST_ID and histogram[IGNORE_ID]:
            return "ids and 255"
        if len(between) == 1 and histogram[255]:
            return "three levels"
        # an alpha has all grades up to 255, above them too; classes end, and 255 is apart
        if len(between) > 1 and between[-1] < _LEAST_CLEAR and 2 * histogram[1:_LEAST_CLEAR].sum() > labelled:
            return "class map"
    return "binary"


def thickness(region: Bool[np.ndarray, "h w"]) -> float:
    """Greatest distance within a region to its edge, as a share of the photo's diagonal: small of an outline."""
    padded = cv2.copyMakeBorder(region.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return float(cv2.distanceTransform(padded, cv2.DIST_L2, 3).max()) / math.hypot(*region.shape)


def is_unsure(form: Form, histogram: np.ndarray) -> bool:
    """Whether this could be an alpha of a person that nobody was sure of."""
    # two values are no gradation
    return form in ("dim", "class map") or (form == "ids" and int(np.count_nonzero(histogram[1:])) > 2)


def read_mask(
    path: Path, meaning: Meaning = BINARY
) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"] | None, tuple[str, ...]]:
    """Reads a mask as 8-bit alpha.

    Args:
        path: of the file.
        meaning: of the masks of its set.

    Returns:
        mask (h, w), 0..255; the pixels that nobody is to be judged by, None where there are none; and notes on what was
        converted or looks odd (all black, all white).

    Raises:
        InputError: as `reading.read_image`, or a mask of another kind than its set's.
    """
    file = open_mask(path)
    mask, ignore, notes = _apply(file, meaning, path)
    odd = reading.odd_mask(mask if ignore is None else mask[~ignore])
    return mask, ignore, tuple(f"mask: {note}" for note in [*file.notes, *notes, *odd])


def _apply(
    file: MaskFile, meaning: Meaning, path: Path
) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"] | None, list[str]]:
    if meaning.kind == "binary":
        notes = [f"{file.mode}, its brightness taken"] if file.mode != "L" else []
        notes += ["values 0/1"] if form_of_histogram(file.histogram) == "zero-one" else []
        return _binary(file, meaning, path), None, notes
    if meaning.kind == "alpha":
        return _alpha(file, meaning, path), None, []
    if meaning.kind == "colours":
        if file.colours is None:
            grey = np.repeat(file.values[..., None], 3, axis=2).astype(np.int32)
        else:
            grey = file.colours.astype(np.int32)
        labels = grey[..., 0] << 16 | grey[..., 1] << 8 | grey[..., 2]
    else:
        labels = file.values
    _check_classes(labels, meaning, path)
    is_person = np.isin(labels, list(meaning.person))
    ignore = np.isin(labels, list(meaning.ignore)) if meaning.ignore else None
    if ignore is not None:
        if meaning.is_strict and not is_person.any() and thickness(ignore) > meaning.most_ignored:
            raise InputError(
                f"mask {path}: nobody, and {100 * ignore.mean():.0f} % of it {IGNORE_ID}, which its set's others have "
                f"around persons: make it one of their kind, or say what the values mean: {remedy(meaning.setting)}"
            )
        if not ignore.any():
            ignore = None
    return np.where(is_person, np.uint8(255), np.uint8(0)), ignore, []


def _binary(file: MaskFile, meaning: Meaning, path: Path) -> UInt8[np.ndarray, "h w"]:
    form = form_of_histogram(file.histogram, file.is_jpeg)
    if form == "zero-one":
        return file.values * np.uint8(255)
    if meaning.is_strict:
        if file.has_cutout and (file.colours is not None or not file.agrees):
            raise _other_kind(path, "a fourth channel that cuts the person out", "alpha")
        if file.colours is not None and not file.is_indexed and not is_black_and_white(file.histogram):
            raise _other_kind(path, "colours", "person:#rrggbb")
        is_alpha = meaning.is_graded and is_unsure(form, file.histogram)
        if form not in ("binary", "empty") and not is_alpha:
            raise _other_kind(path, f"the values {list_values(np.flatnonzero(file.histogram))}", "person:<ids>")
    return file.values


def _alpha(file: MaskFile, meaning: Meaning, path: Path) -> UInt8[np.ndarray, "h w"]:
    if file.alpha is None:
        # an opaque photo is a person all over; black and white are a mask of another kind, whoever says alpha
        is_mask = form_of_histogram(file.histogram, file.is_jpeg) in ("binary", "zero-one", "empty")
        if file.colours is None and (meaning.is_strict or is_mask):
            raise _other_kind(path, "no fourth channel", "binary")
        return np.full(file.values.shape, 255, np.uint8)
    return file.alpha


def _check_classes(labels: np.ndarray, meaning: Meaning, path: Path) -> None:
    if meaning.seen is None:
        return
    if unknown := set(np.unique(labels).tolist()) - meaning.seen:
        raise InputError(
            f"mask {path}: has {list_values(unknown, meaning.kind == 'colours')}, its set's others only "
            f"{list_values(meaning.seen, meaning.kind == 'colours')}: make it one of their kind, or say what values "
            f"mean: {remedy(meaning.setting)}"
        )


def is_black_and_white(histogram: np.ndarray) -> bool:
    """Whether all brightness but a soft outline's is near black or near white."""
    clear = histogram[: _JPEG_NOISE + 1].sum() + histogram[255 - _JPEG_NOISE :].sum()
    return bool(clear >= 0.9 * histogram.sum())


def _other_kind(path: Path, what: str, setting: str) -> InputError:
    return InputError(
        f"mask {path}: has {what}, unlike its set's others: make it one of their kind, or, if all are like it, "
        f"say so: {remedy(setting)}"
    )


def remedy(*settings: str) -> str:
    """How the user says what a mask means."""
    return " or ".join(f"--set data.mask={setting}" for setting in settings)


def list_values(values: "set[int] | frozenset[int] | np.ndarray | list[int]", are_colours: bool = False) -> str:
    """Values for a message: all of a few, else the ends."""
    ordered = sorted(int(value) for value in values)
    texts = [f"#{value:06x}" if are_colours else str(value) for value in ordered]
    return ", ".join(texts) if len(texts) <= 8 else f"{', '.join(texts[:4])} … {texts[-1]} ({len(texts)} values)"
