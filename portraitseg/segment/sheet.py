"""`portraitseg sheet`: photos, masks and their differences side by side, to look at."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from portraitseg import contract
from portraitseg.data.reading import read_image
from portraitseg.errors import InputError
from portraitseg.segment import pictures
from portraitseg.segment.segmenter import Segmentation, Segmenter

#: Longer side of a picture in the sheet, the height of a line of names, and the most pictures in one.
_SIDE, _LINE, _MOST = 320, 22, 400

_WHITE, _MISSING, _EXTRA = 255, (30, 110, 255), (255, 130, 0)

Picture = UInt8[np.ndarray, "h w 3"]


def draw_sheet(photos: Sequence[Path], models: Sequence[str], out: Path, refine: bool, overwrite: bool) -> None:
    """Writes one picture: a row a photo; the photo, a cut-out on white for each model, differences from the first.

    In a difference blue is person for the first model alone, orange for the other alone.

    Raises:
        InputError: a photo or model that cannot be read, too many, an output that is there or an input.
    """
    if out.exists() and not overwrite:
        raise InputError(f"--out {out}: is there already: --overwrite makes it anew")
    if out.resolve() in {path.resolve() for path in photos}:
        raise InputError(f"--out {out}: would replace an input: name another file")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise InputError(f"--out {out}: name a .png or .jpg")
    if len(photos) * 2 * len(models) > _MOST:
        raise InputError(f"{len(photos)} photos and {len(models)} models: at most {_MOST} pictures in a sheet")
    segmenters = [Segmenter(model, refine=refine) for model in models]
    names = ["photo", *(segmenter.path.stem for segmenter in segmenters)]
    names += [f"{names[1]} / {name}" for name in names[2:]]
    rows = [_row(path, segmenters) for path in photos]
    height, width = (max(picture.shape[axis] for row in rows for picture in row) for axis in (0, 1))
    lines = [np.hstack([_pad(picture, height, width) for picture in row]) for row in rows]
    header = np.hstack([_label(name, width) for name in names])
    pictures.write(out, np.vstack([header, *lines]))


def _row(path: Path, segmenters: Sequence[Segmenter]) -> list[Picture]:
    image = _fit(read_image(path)[0])
    results = [segmenter.segment(image) for segmenter in segmenters]
    cuts = [one.over((_WHITE, _WHITE, _WHITE)) for one in results]
    return [image, *cuts, *(_difference(results[0], other) for other in results[1:])]


def _difference(first: Segmentation, other: Segmentation) -> Picture:
    gray = cv2.cvtColor(cv2.cvtColor(first.image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    pale = (128 + gray // 2).astype(np.uint8)
    pale[first.mask & ~other.mask] = _MISSING
    pale[other.mask & ~first.mask] = _EXTRA
    return pale


def _fit(image: Picture) -> UInt8[np.ndarray, "h2 w2 3"]:
    factor = _SIDE / max(image.shape[:2])
    size = max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor))
    return contract.resize_image(image, size)


def _pad(picture: Picture, height: int, width: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    missing = height - picture.shape[0], width - picture.shape[1]
    return cv2.copyMakeBorder(picture, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT, value=(_WHITE,) * 3)


def _label(name: str, width: int) -> Picture:
    canvas = np.full((_LINE, width, 3), _WHITE, np.uint8)
    scale = min(0.42, 0.42 * width / max(1, cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0]))
    return cv2.putText(canvas, name, (2, 15), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
