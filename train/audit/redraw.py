"""Masks that are to be drawn anew: handed out with what the networks suggest, taken back once a person drew them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from rich.progress import track

from portraitseg import contract, files
from portraitseg.cli import console, say
from portraitseg.config import Config
from portraitseg.data import decisions, masks, reading
from portraitseg.data.folder import path_of_key
from portraitseg.errors import InputError

#: Lies in the folder that is handed out: photo → SHA-256 of its mask's pixels as they were.
INDEX_NAME = "redraw.json"

#: Folder of what the networks see, beside the sets: to copy from, never read by us.
SUGGESTIONS = "suggestions"


def hand_out(config: Config, out: Path, models: Sequence[str]) -> None:
    """Writes the photos that `data.decisions` says to fix, with their masks, for a drawing program.

    `OUT/<set>/images/<stem>.png` is the upright photo, `OUT/<set>/masks/<stem>.png` its mask of 0 and 255, to be drawn
    over, `OUT/suggestions/<set>/<stem>.png` the networks' mask, at the photo's size.

    Args:
        config: with `data.decisions`.
        out: a new folder.
        models: as in `stage.audit`.

    Raises:
        InputError: no decisions, nothing to fix, `out` is not empty, no such network or photo.
    """
    from portraitseg.data import open_dataset
    from train.audit.stage import open_models
    from train.audit.survey import teachers_of
    from train.function_matching import teach

    if config.data.decisions is None:
        raise InputError("redraw: says which photos with data.decisions: --set data.decisions=decisions.json")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is not empty: name a new folder")
    decided = decisions.read(config.data.decisions)
    chosen = sorted(key for key, decision in decided.items() if decision == "fix")
    dataset = open_dataset(config.data.model_copy(update={"decisions": None}), config.seed)
    known = {key for keys in dataset.splits.values() for key in keys}
    if not chosen or not set(chosen) <= known:
        missing = f"'{min(set(chosen) - known)}' is not in these photos" if chosen else "no photo is to be fixed"
        raise InputError(f"data.decisions {config.data.decisions}: {missing}: decide on the page of `train audit`")
    teachers = teachers_of(open_models(models))
    index = {}
    for key in track(chosen, "handing out", console=console, transient=True, disable=not console.is_terminal):
        sample = dataset.load(key)
        if sample.mask is None:
            raise InputError(f"photo '{key}' has no mask to draw over")
        mask = np.where(contract.truth_to_mask(sample.mask), np.uint8(255), np.uint8(0))
        seen = teach(teachers, sample.image) > contract.PROBABILITY_THRESHOLD
        _write(path_of_key(out, key, "images", ".png"), cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR))
        _write(path_of_key(out, key, "masks", ".png"), mask)
        _write(out / SUGGESTIONS / f"{key}.png", np.where(seen, np.uint8(255), np.uint8(0)))
        index[key] = _digest(mask)
    files.write_json(out / INDEX_NAME, {"schema_version": 1, "photos": index})
    say(f"{out}: {len(chosen)} photos; draw over masks/, then: train check-data --fix COPY --redrawn {out}")


class Redrawn:
    """The folder that came back."""

    def __init__(self, folder: Path) -> None:
        """Reads its index.

        Raises:
            InputError: not a folder that was handed out.
        """
        self.folder = folder
        try:
            self._before: dict[str, str] = json.loads((folder / INDEX_NAME).read_bytes())["photos"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"--redrawn {folder}: no readable {INDEX_NAME}: give the folder that `python -m train redraw` wrote"
            ) from error

    def load(self, key: str, shape: tuple[int, int]) -> UInt8[np.ndarray, "h w"] | None:
        """The mask that was drawn anew, 0 to 255; None where nobody has drawn it yet.

        Raises:
            InputError: unreadable, or of another size than its photo.
        """
        path = path_of_key(self.folder, key, "masks", ".png")
        if key not in self._before or not path.exists():
            return None
        mask = masks.read_mask(path)[0]
        reading.check_same_size(np.empty((*shape, 3), np.uint8), mask, path)
        binary = np.where(contract.truth_to_mask(mask), np.uint8(255), np.uint8(0))
        return None if _digest(binary) == self._before[key] else mask


def _digest(mask: UInt8[np.ndarray, "h w"]) -> str:
    """Of pixels, not of the file: a drawing program packs them in its own way."""
    return hashlib.sha256(repr(mask.shape).encode() + mask.tobytes()).hexdigest()


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, cv2.imencode(".png", pixels)[1].tobytes())
