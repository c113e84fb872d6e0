"""Golden vectors: a synthetic portrait and what each exported file says of it, so that an app can prove its own pixels.

`golden/portrait.png` has the network's size, so that no resizing comes between; `golden/<file>.png` is that file's
probability of person, 0..255, after an empty previous mask where it takes one; `golden/golden.json` has the tolerances.
A portrait is only taken if the usual mistakes of an app (BGR, a scale left out, another normalisation) are out of them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from portraitseg import contract, files, manifest
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import Manifest
from portraitseg.runners import open_runner
from portraitseg.runners.base import NotRunnable, Runner
from portraitseg.synthetic import portraits as synthetic

FOLDER, PORTRAIT, INDEX = "golden", "portrait.png", "golden.json"

#: Greatest mean difference, of 255. Other runtimes of one file differ by 0.2 (float16 arithmetic) to 2.3 (int8 rounded
#: elsewhere: docs/gpu-check.md), the byte of the picture adds a half.
MEAN_STEPS = 4.0

#: Greatest share of pixels on the other side of 0.5. The steepest outlines move by a pixel at most.
FLIPPED_SHARE = 0.01

#: Portraits that are looked at, and by what factor a mistake must be out of tolerance on the one that is taken.
_PORTRAITS, _MARGIN = 24, 1.5

#: Person's share of the mask: a mask of nothing proves nothing.
_COVERAGE = (0.1, 0.8)

Byte = UInt8[np.ndarray, "h w"]


def write(folder: Path, listed: Manifest) -> bool:
    """Writes `golden/` anew for all files that the manifest lists and this machine can run.

    Returns:
        False: no portrait tells right pixels from wrong ones, as with a network that was hardly trained; there is no
        `golden/` then.
    """
    files.remove(folder / FOLDER)
    runners = dict(_runners(folder, listed))
    judge = next((runner for runner in runners.values() if runner.channels != "rgba"), None)
    portrait = _choose(judge) if judge is not None else None
    if portrait is None:
        return False
    scratch = folder / FOLDER
    scratch.mkdir()
    _write_png(scratch / PORTRAIT, portrait[..., ::-1])
    masks = {}
    for path, runner in runners.items():
        masks[path] = f"{path}.png"
        _write_png(scratch / masks[path], to_bytes(runner.predict(portrait)))
    index = {
        "portrait": PORTRAIT,
        "probability": "value / 255",
        "tolerance": {"mean_steps": MEAN_STEPS, "flipped_share": FLIPPED_SHARE},
        "masks": masks,
    }
    files.write_json(scratch / INDEX, index)
    return True


def check(folder: Path) -> int:
    """Checks a folder of assets as it was copied: hashes, and each golden mask against the file's own.

    Returns:
        Number of masks compared; files that this machine cannot run are left out.

    Raises:
        InputError: no manifest, a file that differs from its hash, golden vectors that are missing or unreadable.
        CheckFailed: a mask out of tolerance.
    """
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    manifest.verify(listed, folder)
    index = _read_index(folder / FOLDER / INDEX)
    portrait = _read_png(folder / FOLDER / PORTRAIT, cv2.IMREAD_COLOR)[..., ::-1]
    faults, count = [], 0
    for path, runner in _runners(folder, listed):
        if path not in index:
            raise InputError(f"{folder / FOLDER / INDEX}: says nothing of {path}: export the run again")
        expected = _read_png(folder / FOLDER / index[path], cv2.IMREAD_GRAYSCALE)
        mean, flipped = difference(expected, to_bytes(runner.predict(np.ascontiguousarray(portrait))))
        count += 1
        if mean > MEAN_STEPS or flipped > FLIPPED_SHARE:
            faults.append(f"{path}: {mean:.1f} of 255 on average, {flipped:.1%} of the pixels flipped")
    if faults:
        raise CheckFailed(f"{folder}: {len(faults)} of {count} golden masks out of tolerance: {'; '.join(faults)}")
    return count


def difference(expected: Byte, actual: Byte) -> tuple[float, float]:
    """Mean absolute difference in steps of 1/255, and the share of pixels on another side of 0.5."""
    mean = float(np.abs(expected.astype(np.int16) - actual).mean())
    return mean, float((contract.truth_to_mask(expected) != contract.truth_to_mask(actual)).mean())


def to_bytes(probability: Float32[np.ndarray, "h w"]) -> Byte:
    """Probability → the nearest of 0..255, by the contract: > 127 where, and only where, it is above one half."""
    return contract.probability_to_bytes(probability)


def mistakes(runner: Runner, image: UInt8[np.ndarray, "h w 3"]) -> Mapping[str, Byte]:
    """What a file says when an app gives it the photo wrongly, by the name of the mistake."""
    outputs_of = {"BGR": to_bytes(runner.predict(np.ascontiguousarray(image[..., ::-1])))}
    if runner.input.dtype == "float32":
        inputs = runner.prepare(image)
        for name, wrong in (("not divided by 255", inputs * 255), ("x / 127.5 - 1", inputs * 2 - 1)):
            outputs = runner.run(wrong.astype(np.float32))
            outputs_of[name] = to_bytes(contract.outputs_to_probability(outputs, runner.output.scale, None))
    return outputs_of


def _choose(runner: Runner) -> UInt8[np.ndarray, "h w 3"] | None:
    """The first synthetic portrait on which every mistake shows."""
    for index in range(_PORTRAITS):
        image, _ = synthetic.render(index, runner.size)
        right = to_bytes(runner.predict(image))
        if not _COVERAGE[0] < contract.truth_to_mask(right).mean() < _COVERAGE[1]:
            continue
        shown = [difference(right, wrong) for wrong in mistakes(runner, image).values()]
        if all(mean > _MARGIN * MEAN_STEPS or flipped > _MARGIN * FLIPPED_SHARE for mean, flipped in shown):
            return image
    return None


def _runners(folder: Path, listed: Manifest) -> Iterator[tuple[str, Runner]]:
    for entry in listed.files:
        try:
            yield entry.path, open_runner(folder / entry.path)
        except NotRunnable:
            continue


def _write_png(path: Path, pixels: np.ndarray) -> None:
    written, content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert written, path
    path.write_bytes(content.tobytes())


def _read_png(path: Path, mode: int) -> np.ndarray:
    pixels = cv2.imread(str(path), mode)
    if pixels is None:
        raise InputError(f"{path}: missing or no picture: export the run again")
    return pixels


def _read_index(path: Path) -> dict[str, str]:
    try:
        masks: Any = json.loads(path.read_text())["masks"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no golden vectors that could be read ({error}): export the run again") from error
    # a name in it never leads out of the folder
    if not isinstance(masks, dict) or any(name != f"{key}.png" for key, name in masks.items()):
        raise InputError(f"{path}: names other pictures than those beside it: export the run again")
    return masks
