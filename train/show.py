"""Pictures of what training sees and of what a network makes of it: one sheet, photos beside their masks."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from rich.progress import track

from portraitseg import contract, files, metrics
from portraitseg.cli import console
from portraitseg.config import Config
from portraitseg.data import Dataset
from portraitseg.errors import InputError
from train.edges import edge_band
from train.function_matching import Teacher
from train.stream import maker_of

Picture = UInt8[np.ndarray, "_ _ 3"]

#: What lies outside a mask is shaded in this colour (R, G, B), which neither skin nor rooms have.
_SHADE = np.array([255, 0, 160])

#: In a difference: person in the second mask alone, and in the first alone (R, G, B).
MISSING, EXTRA = (30, 110, 255), (255, 130, 0)

#: Of a photo in a sheet of outputs: its height, and that of the line above it, px.
_HEIGHT_PX, _LINE_PX = 240, 20

#: Columns of samples beside each other.
_ACROSS = 8


def check_out(path: Path, config: Config) -> None:
    """Whether a sheet can be written here; one that is there is made anew.

    Raises:
        InputError: no name of a PNG, or a file among the photos.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"--out {path}: a sheet is a PNG: name a .png")
    roots = [config.data.root, *(one.root for one in config.data.sets)]
    if path.exists() and any(root and root.resolve() in path.resolve().parents for root in roots):
        raise InputError(f"--out {path}: is there already, among the photos: name another place")


def tint(photo: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The photo with everything outside the mask shaded."""
    shaded = (0.35 * photo + 0.65 * _SHADE).astype(np.uint8)
    return np.where(mask[..., None], photo, shaded)


def difference(
    photo: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    other: Bool[np.ndarray, "h w"],
    ignore: Bool[np.ndarray, "h w"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The photo, pale, with what `other` alone takes for person in blue, and what `mask` alone does in orange."""
    pale = 128 + cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) // 2
    known = np.ones_like(mask) if ignore is None else ~ignore
    pale[other & ~mask & known] = MISSING
    pale[mask & ~other & known] = EXTRA
    return pale


def write_samples(path: Path, dataset: Dataset, config: Config, split: str, photos: int, is_augmented: bool) -> None:
    """Writes a PNG of photos above their tinted masks and the bands around their outlines, eight beside each other.

    Args:
        path: of the picture.
        dataset: the photos.
        config: of it all that makes a batch is used.
        split: of the data.
        photos: how many.
        is_augmented: as the first batch of training has them: augmented, pasted, mixed, background-only ones too. Else
            the first photos of the split as they are.

    Raises:
        InputError: a photo that cannot be read, or one without a mask.
    """
    data = config.data.model_copy(update={"train_split": split})
    train = config.train.model_copy(update={"batch_size": photos})
    if is_augmented:
        maker = maker_of(dataset, config.model_copy(update={"data": data, "train": train}), ("edge",))
        batch = maker.make(0)
        assert batch.edges is not None
        columns = [_column(*parts) for parts in zip(batch.images[..., :3], batch.targets, batch.edges, strict=True)]
    else:
        columns = []
        for key in dataset.keys(split)[:photos]:
            sample = dataset.load(key)
            if sample.mask is None:
                raise InputError(f"photo '{key}' has no mask to show: name another split")
            target = contract.mask_to_target(sample.mask, config.model.size, config.data.soft_masks)
            columns.append(_column(contract.resize_image(sample.image, config.model.size), target, edge_band(target)))
    _write(path, columns)


def write_outputs(path: Path, dataset: Dataset, split: str, network: Teacher, photos: int) -> list[tuple[str, float]]:
    """Writes a PNG of photo, truth, mask and difference (blue: missing, orange: too much), the worst first.

    Args:
        path: of the picture.
        dataset: the photos.
        split: of the data; every photo of it is looked at.
        network: RGB photo → probability.
        photos: how many are shown.

    Returns:
        Key and IoU of those shown.

    Raises:
        InputError: a photo that cannot be read, or one without a mask.
    """
    scored = []
    keys = dataset.keys(split)
    for key in track(keys, "measuring", console=console, transient=True, disable=not console.is_terminal):
        sample = dataset.load(key)
        if sample.mask is None:
            raise InputError(f"photo '{key}' has no mask to compare with: name another split")
        predicted = contract.probability_to_mask(network(sample.image), sample.mask.shape)
        scored.append(
            (metrics.iou(predicted, contract.truth_to_mask(sample.mask), sample.ignore), key, np.packbits(predicted))
        )
    scored.sort(key=lambda item: item[:2])
    rows = []
    for iou, key, packed in scored[:photos]:
        sample = dataset.load(key)
        assert sample.mask is not None
        truth = contract.truth_to_mask(sample.mask)
        predicted = np.unpackbits(packed, count=truth.size).reshape(truth.shape) > 0
        panels = [sample.image, tint(sample.image, truth), tint(sample.image, predicted)]
        row = fit([*panels, difference(sample.image, predicted, truth, sample.ignore)])
        line = np.full((_LINE_PX, row.shape[1], 3), 255, np.uint8)
        cv2.putText(line, f"{100 * iou:.1f}  {key}", (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(np.vstack([line, row]))
    width = max(row.shape[1] for row in rows)
    sheet = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    _write_png(path, np.vstack(sheet))
    return [(key, iou) for iou, key, _ in scored[:photos]]


def fit(panels: Sequence[Picture], height: int = _HEIGHT_PX) -> Picture:
    """Pictures of one size beside each other, at this height."""
    rows, columns = panels[0].shape[:2]
    size = height, max(1, round(columns * height / rows))
    return np.hstack([contract.resize_image(np.ascontiguousarray(panel), size) for panel in panels])


def _column(
    image: UInt8[np.ndarray, "h w 3"], target: UInt8[np.ndarray, "h w"], edges: UInt8[np.ndarray, "h w"]
) -> Picture:
    weight = edges[..., None].astype(np.float32) / 255
    banded = np.rint((1 - weight) * (image * 0.4) + weight * _SHADE).astype(np.uint8)
    return np.concatenate([image, tint(image, contract.truth_to_mask(target)), banded])


def _write(path: Path, columns: Sequence[Picture]) -> None:
    rows = [list(columns[start : start + _ACROSS]) for start in range(0, len(columns), _ACROSS)]
    rows[-1] += [np.full_like(columns[0], 255)] * (len(rows[0]) - len(rows[-1]))
    _write_png(path, np.concatenate([np.concatenate(row, axis=1) for row in rows]))


def _write_png(path: Path, picture: Picture) -> None:
    is_coded, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert is_coded
    files.write_bytes(path, content.tobytes())
