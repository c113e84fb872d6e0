"""Soft masks from hard ones: the outline as the photo's colours have it, strands of hair and all.

A band around the outline is unknown; what lies inside is person, outside background. In the band alpha follows the
colours: by KNN matting (Chen, Li and Tang, "KNN Matting", CVPR 2012) or closed-form matting (Levin, Lischinski and
Weiss, PAMI 2008), both as pymatting has them, or, fast and rougher, by the guided filter of `portraitseg.refine`.
"""

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from rich.progress import track

from portraitseg import contract, files, metrics, refine
from portraitseg.cli import console, say, warn
from portraitseg.config import Config
from portraitseg.data.base import Dataset, is_measured
from portraitseg.data.folder import path_of_key
from portraitseg.errors import InputError
from portraitseg.synthetic import portraits as synthetic
from portraitseg.workers import cores, open_pool, shared
from train.folder_copy import LEAST, begin, copy_file, open_copied, write_splits

Method = Literal["closed_form", "knn", "guided"]
METHODS: tuple[Method, ...] = ("closed_form", "knn", "guided")

#: Half the band's thickness as a share of the person's size (the root of its area).
BAND = 0.015

#: Longer side in pixels at which mattes are made: the equations of a phone's photo would take minutes and gigabytes.
SIDE_PX = 512

#: Of the guided filter: its radius as a share of the person's size, and contrast that counts as noise (a variance of
#: colours in [0, 1]).
_RADIUS, _EPSILON = 0.015, 1e-4

#: Folder of the masks as they were, beside `masks/`.
GIVEN = "given"

_NOT_SOLVED = "the equations have no stable solution here, so the guided filter made it"
_NO_BAND = "a person too small for a band: the mask stays"


def write_mattes(config: Config, out: Path | None, method: Method, band: float) -> None:
    """Writes a copy of a folder whose training masks are mattes; a stopped call goes on.

    `masks/` has 8-bit alpha, `given/` beside it the masks as they were. Photos are hard links where the disk allows
    it. What is measured on (`data.val_split`, tests) keeps its masks.

    Args:
        config: with a folder of photos; of `train` the workers.
        out: a new folder, or one that an earlier call has begun.
        method: of matting.
        band: half the unknown band, as a share of the person's size.

    Raises:
        InputError: no folder of photos, its masks are classes, `out` holds something else, no pymatting.
        KeyboardInterrupt: Ctrl-C, saying what is kept.
    """
    if out is None:
        raise InputError("--out: name a new folder")
    _need_pymatting(method)
    dataset = open_copied(config, out, "matte")
    begin(out, {"matte": method, "band": band, "side_px": SIDE_PX, "data": dataset.name})
    measured = {
        key for name, keys in dataset.splits.items() if is_measured(name, config.data.val_split) for key in keys
    }
    left = []
    for key in sorted({key for keys in dataset.splits.values() for key in keys}):
        photo, mask = dataset.files(key)
        copy_file(photo, path_of_key(out, key, "images", photo.suffix))
        if mask is None:
            continue
        if key in measured:
            copy_file(mask, path_of_key(out, key, "masks", mask.suffix))
            continue
        copy_file(mask, path_of_key(out, key, GIVEN, mask.suffix))
        if not path_of_key(out, key, "masks", ".png").exists():
            left.append(key)
    notes = Counter[str]()
    try:
        for note in _work(_Job(dataset, out, method, band), left, config.train.workers):
            notes.update([note] if note else [])
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"the mattes made so far are kept in {out}") from error
    write_splits(out, dataset.splits)
    for note, count in notes.most_common():
        warn(f"{note}: {count} of {len(left)}")
    say(f"{out}: {len(left)} mattes; train on it with data.soft_masks=true")


def matte(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], method: Method, band: float = BAND
) -> tuple[Float32[np.ndarray, "h w"], str]:
    """Alpha of the person, and a note where it is not what the method makes.

    Args:
        image: RGB.
        mask: person or not.
        method: of matting.
        band: as in `write_mattes`.

    Returns:
        In [0, 1], at the photo's size; 0 and 1 outside of the band.
    """
    height, width = mask.shape
    factor = min(1.0, SIDE_PX / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    small = contract.resize_image(image, size)
    person = contract.mask_to_target(np.where(mask, np.uint8(255), np.uint8(0)), size) > contract.MASK_THRESHOLD
    known = trimap(person, band)
    if not ((known == 0).any() and (known == 1).any() and (known == 0.5).any()):
        note = "" if mask.all() or not mask.any() else _NO_BAND
        return mask.astype(np.float32), note
    alpha, note = _solve(small, person, known, method)
    # nothing becomes softer than the photo: where it is larger, the sure pixels are those of its own mask
    alpha = contract.probability_to_alpha(alpha, (height, width))
    sure = cv2.resize(known, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.where(sure == 0.5, alpha, np.where(sure == 1, np.float32(1), np.float32(0))), note


def trimap(mask: Bool[np.ndarray, "h w"], band: float) -> Float32[np.ndarray, "h w"]:
    """1 for person, 0 for background, 0.5 within `band` times the person's size of the outline, 1 px at least.

    Where the photo cuts the person off is no outline.
    """
    radius = max(1, round(band * math.sqrt(np.count_nonzero(mask))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.uint8)
    plane = mask.astype(np.uint8)
    # beyond the edge OpenCV takes what changes nothing
    inside, outside = cv2.erode(plane, disc) > 0, cv2.dilate(plane, disc) == 0
    return np.where(inside, np.float32(1), np.where(outside, np.float32(0), np.float32(0.5)))


def _solve(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], known: Float32[np.ndarray, "h w"], method: Method
) -> tuple[Float32[np.ndarray, "h w"], str]:
    if method == "guided":
        return _guided(image, mask, known), ""
    # far from the band everything is known: less to solve
    left, top, width, height = cv2.boundingRect((known == 0.5).astype(np.uint8))
    margin = max(width, height) // 8 + 4
    window = np.s_[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin]
    solver = _SOLVERS[method]()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            solution = solver(image[window] / 255.0, known[window].astype(np.float64))
    except (ValueError, Warning):
        return _guided(image, mask, known), _NOT_SOLVED
    if not np.isfinite(solution).all():
        return _guided(image, mask, known), _NOT_SOLVED
    alpha = known.copy()
    alpha[window] = np.clip(solution, 0, 1)
    return alpha, ""


def _guided(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], known: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    radius = max(1, round(_RADIUS * math.sqrt(np.count_nonzero(mask))))
    solved = refine.coefficients(image, mask.astype(np.float32), max(mask.shape), radius, _EPSILON)
    return np.where(known == 0.5, refine.apply(solved, image), known)


def _knn() -> Callable[..., Float[np.ndarray, "h w"]]:
    from pymatting import estimate_alpha_knn

    return estimate_alpha_knn


def _closed_form() -> Callable[..., Float[np.ndarray, "h w"]]:
    from pymatting import estimate_alpha_cf

    return estimate_alpha_cf


_SOLVERS: Mapping[str, Callable[[], Callable[..., Float[np.ndarray, "h w"]]]] = {
    "knn": _knn,
    "closed_form": _closed_form,
}


def method_of(name: str) -> Method:
    """A method by its name.

    Raises:
        InputError: no such method.
    """
    for method in METHODS:
        if method == name:
            return method
    raise InputError(f"--method {name}: one of {', '.join(METHODS)}")


def _need_pymatting(method: Method) -> None:
    if method in _SOLVERS:
        try:
            _SOLVERS[method]()
        except ImportError as error:
            raise InputError(f"--method {method}: pip install pymatting, or --method guided") from error


# ---- in parallel


@dataclass(frozen=True)
class _Job:
    dataset: Dataset
    out: Path
    method: Method
    band: float


def _make(key: str) -> str:
    """In a worker: writes the matte of a photo; returns a note."""
    job: _Job = shared()
    sample = job.dataset.load(key)
    assert sample.mask is not None
    alpha, note = matte(sample.image, contract.truth_to_mask(sample.mask), job.method, job.band)
    drawn = contract.probability_to_bytes(alpha)
    drawn[drawn < LEAST] = 0
    files.write_bytes(path_of_key(job.out, key, "masks", ".png"), cv2.imencode(".png", drawn)[1].tobytes())
    return note


def _work(job: _Job, keys: list[str], workers: int) -> list[str]:
    if not keys:
        return []
    with open_pool(min(workers or cores(), len(keys)), job) as processes:
        try:
            mattes = processes.map(_make, keys, chunksize=4)
            shown = track(
                mattes, "matting", len(keys), console=console, transient=True, disable=not console.is_terminal
            )
            return list(shown)
        except KeyboardInterrupt:
            processes.shutdown(wait=False, cancel_futures=True)
            raise


# ---- measured where alpha is known


def measure(photos: int, band: float) -> dict[str, dict[str, float]]:
    """Compares mask and mattes with the exact alpha of synthetic portraits, 320×320 px.

    From the exact mask (alpha above half), and from one with straight pieces of up to 2 px off, as people draw.

    Args:
        photos: how many, of the portraits' `val` split's seed.
        band: as in `write_mattes`.

    Returns:
        Mask and method → mean absolute difference, gradient error (`metrics.gradient_error`), CPU seconds a photo.
    """
    sums: dict[str, np.ndarray] = {}
    image, truth = synthetic.render(0, (64, 64))
    for method in METHODS:
        # compiled once, which is no photo's time
        matte(image, contract.truth_to_mask(truth), method, band)
    for index in range(photos):
        image, truth = synthetic.render(index, (320, 320))
        exact = contract.truth_to_mask(truth)
        for kind, mask in (("exact", exact), ("drawn", simplified(exact))):
            for way in (None, *METHODS):
                started = time.process_time()
                alpha = mask.astype(np.float32) if way is None else matte(image, mask, way, band)[0]
                seconds = time.process_time() - started
                errors = (
                    np.abs(alpha - contract.bytes_to_float(truth)).mean(),
                    metrics.gradient_error(alpha, contract.bytes_to_float(truth)),
                )
                name = f"{kind}, {way or 'mask'}"
                sums[name] = sums.get(name, np.zeros(3)) + np.array([*errors, seconds])
    return {
        name: dict(zip(("mad", "gradient", "seconds"), map(float, total / photos), strict=True))
        for name, total in sums.items()
    }


def simplified(mask: Bool[np.ndarray, "h w"], tolerance_px: float = 2.0) -> Bool[np.ndarray, "h w"]:
    """The mask with straight pieces for its outline, at most `tolerance_px` off (Douglas and Peucker, 1973)."""
    drawn = np.zeros(mask.shape, np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    pieces = [cv2.approxPolyDP(contour, tolerance_px, True) for contour in contours]
    cv2.fillPoly(drawn, [piece for piece in pieces if len(piece) > 2], 1)
    return drawn > 0
