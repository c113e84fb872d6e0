"""Every photo of some splits beside its mask and the networks' consensus, in parallel; a stopped survey goes on."""

import base64
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from rich.progress import track

from portraitseg import contract, files, metrics
from portraitseg.cli import console
from portraitseg.data.base import Dataset, Sample
from portraitseg.errors import InputError
from portraitseg.workers import cores, open_pool, shared
from train.audit import planting
from train.audit.faults import SIDE_PX, Finding, Held, find_faults
from train.audit.planting import Planting
from train.function_matching import Teacher, open_file, teach

#: Side of the small masks by which a mask of another photo is recognised.
SIGNATURE_SIDE = 24

#: Photos that a worker is given at once.
_CHUNK = 8


@dataclass(frozen=True)
class Job:
    """All that a worker needs.

    Attributes:
        dataset: the photos.
        models: files of the networks.
        held: what held things are to be.
        planted: photos whose masks get a fault first.
    """

    dataset: Dataset
    models: tuple[Path, ...]
    held: Held = "person"
    planted: Mapping[str, Planting] = field(default_factory=dict)

    def load(self, key: str) -> Sample:
        """A photo as it is audited.

        Raises:
            InputError: it cannot be read.
        """
        sample = self.dataset.load(key)
        if (drawn := self.planted.get(key)) is None:
            return sample
        changed = planting.plant(sample, self.dataset.load(drawn.partner), drawn)
        assert changed is not None
        return changed


@dataclass(frozen=True)
class Seen:
    """What was seen of a photo.

    Attributes:
        key: of the photo.
        iou, boundary_iou: of its mask and the consensus, at most `SIDE_PX` px large.
        agreement: the lowest IoU of one of the networks with the consensus.
        faults: the worst first.
        signatures: of mask and consensus, packed bits in base64.
        error: why it could not be looked at.
    """

    key: str
    iou: float = 1.0
    boundary_iou: float = 1.0
    agreement: float = 1.0
    faults: tuple[Finding, ...] = ()
    signatures: tuple[str, str] = ("", "")
    error: str | None = None


@dataclass(frozen=True)
class View:
    """A photo at most `SIDE_PX` px large, its mask, what each network says of it, and what is unknown."""

    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    probabilities: Float32[np.ndarray, "n h w"]
    ignore: Bool[np.ndarray, "h w"] | None

    @property
    def consensus(self) -> Float32[np.ndarray, "h w"]:
        """The networks' mean."""
        return self.probabilities.mean(axis=0)


def view_of(sample: Sample, teachers: Sequence[Teacher]) -> View:
    """Asks the networks about a photo and its mirror image.

    Raises:
        InputError: a photo without a mask.
    """
    if sample.mask is None:
        raise InputError(f"photo '{sample.key}' has no mask to audit: name another split")
    height, width = sample.image.shape[:2]
    factor = min(1.0, SIDE_PX / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    image = contract.resize_image(sample.image, size)
    mask = contract.truth_to_mask(contract.mask_to_target(sample.mask, size))
    ignore = None
    if sample.ignore is not None:
        ignore = contract.mask_to_target(np.where(sample.ignore, np.uint8(255), np.uint8(0)), size) > 0
    return View(image, mask, np.stack([teach([teacher], image) for teacher in teachers]), ignore)


def survey(job: Job, keys: Sequence[str], log: Path, origin: Mapping[str, Any], workers: int = 0) -> list[Seen]:
    """Looks at every photo that the log does not have yet, and adds it there.

    Args:
        job: photos and networks.
        keys: of the photos.
        log: JSON lines; the first says of what. Another one's is refused.
        origin: what makes the log this survey's.
        workers: processes; 0: one per core.

    Returns:
        Of each photo what was seen, in the order of `keys`.

    Raises:
        InputError: the log is of another survey, or the disk refuses.
        KeyboardInterrupt: Ctrl-C, saying what is kept.
    """
    done = _resume(log, origin)
    left = [key for key in keys if key not in done]
    if left:
        with log.open("a", encoding="utf-8") as lines, open_pool(min(workers or cores(), len(left)), job) as pool:
            try:
                _look_at(left, pool, lines, done)
            except KeyboardInterrupt as error:
                pool.shutdown(wait=False, cancel_futures=True)
                raise KeyboardInterrupt(f"what was seen of {len(done)} photos is kept in {log}") from error
    return [done[key] for key in keys]


def _look_at(keys: Sequence[str], pool: Executor, lines: TextIO, done: dict[str, Seen]) -> None:
    views = pool.map(look, keys, chunksize=_CHUNK)
    for seen in track(views, "auditing", len(keys), console=console, transient=True, disable=not console.is_terminal):
        lines.write(json.dumps(asdict(seen)) + "\n")
        lines.flush()
        done[seen.key] = seen


def _resume(log: Path, origin: Mapping[str, Any]) -> dict[str, Seen]:
    """What the log has; a last line that was cut off is taken away."""
    first = json.dumps(origin)
    if not log.exists():
        log.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(log, first + "\n")
        return {}
    text = log.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    header, *lines = whole.decode().splitlines() or [""]
    if header != first:
        raise InputError(
            f"--out {log.parent}: holds an audit of other photos, networks or settings: name another, or delete it"
        )
    if len(whole) < len(text):
        files.write_bytes(log, whole)
    return {seen.key: seen for seen in map(_parse, lines)}


def _parse(line: str) -> Seen:
    value = json.loads(line)
    faults = tuple(Finding(**{**item, "box": tuple(item["box"])}) for item in value.pop("faults"))
    return Seen(**{**value, "faults": faults, "signatures": tuple(value["signatures"])})


def look(key: str) -> Seen:
    """In a worker: what is wrong with a photo's mask."""
    job: Job = shared()
    try:
        view = view_of(job.load(key), teachers_of(job.models))
    except InputError as error:
        return Seen(key, error=str(error))
    consensus = view.consensus
    person = consensus > contract.PROBABILITY_THRESHOLD
    each = view.probabilities > contract.PROBABILITY_THRESHOLD
    return Seen(
        key=key,
        iou=round(metrics.iou(view.mask, person, view.ignore), 4),
        boundary_iou=round(metrics.boundary_iou(view.mask, person, view.ignore), 4),
        agreement=round(min(metrics.iou(one, person) for one in each), 4),
        faults=tuple(find_faults(view.image, view.mask, view.probabilities, view.ignore, job.held)),
        signatures=(sign(view.mask), sign(person)),
    )


def load_view(key: str) -> View:
    """In a worker: a photo with its mask and what the networks say."""
    job: Job = shared()
    return view_of(job.load(key), teachers_of(job.models))


@lru_cache(maxsize=1)
def teachers_of(models: tuple[Path, ...]) -> tuple[Teacher, ...]:
    """The networks of a process."""
    return tuple(open_file(path, is_probed=True) for path in models)


def sign(mask: Bool[np.ndarray, "h w"]) -> str:
    """A mask at `SIGNATURE_SIDE` px, its bits in base64."""
    side = SIGNATURE_SIDE
    small = (
        cv2.resize(mask.astype(np.uint8) * 255, (side, side), interpolation=cv2.INTER_AREA) > contract.MASK_THRESHOLD
    )
    return base64.b64encode(np.packbits(small).tobytes()).decode()


def unpack(signatures: Sequence[str]) -> Float32[np.ndarray, "n pixels"]:
    """Small masks, a row each, as 0 and 1."""
    packed = np.frombuffer(base64.b64decode("".join(signatures)), np.uint8) if signatures else np.zeros(0, np.uint8)
    return np.unpackbits(packed.reshape(len(signatures), -1), axis=1).astype(np.float32)
