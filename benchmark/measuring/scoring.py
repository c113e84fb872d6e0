"""Scores files on the photos of a split: streamed, in several processes, and resumable from its journals."""

import dataclasses
import hashlib
import json
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from benchmark.measuring.journal import Journal
from benchmark.measuring.model_files import ModelFile
from benchmark.measuring.peers import open_file
from benchmark.measuring.quality import FileScores, columns, score_image, truth_of
from benchmark.measuring.robustness import ALL_CONDITIONS, CLEAN
from portraitseg import files
from portraitseg.data.base import Dataset, Sample, Shard, hash_photos
from portraitseg.data.folder import FolderDataset
from portraitseg.data.mixed import MixedDataset
from portraitseg.errors import InputError
from portraitseg.refine import EdgeRefiner
from portraitseg.runners import Runner
from portraitseg.workers import cores, settle

#: Runs of a file after which a process hands over what it has: a kill costs no more than so many, times the processes.
CHUNK = 32

#: A split of fewer photos is done before a second process has started.
LEAST_PHOTOS = 64

#: In the folder of the journals, those of other machines' shards.
SHARDS = "shard-*-of-*"

#: Libraries that photos and scores go through.
_TOOLS = ("numpy", "opencv-python-headless", "pillow", "ai-edge-litert", "onnxruntime")


@dataclass(frozen=True)
class Chunk:
    """Photos of a split, and which files are to be scored on them under which conditions."""

    keys: tuple[str, ...]
    indices: tuple[int, ...]
    work: tuple[tuple[str, str], ...]


#: Of a chunk: scores by (photo, column) for each of its work, and what the loader converted.
Scored = tuple[list[np.ndarray], list[str]]


@dataclass
class Scoring:
    """Scores of several files on one split.

    Attributes:
        model_files: the files; those that cannot be opened are not among them.
        dataset: with the photos.
        split: its name.
        conditions: names of `robustness.ALL_CONDITIONS`.
        folder: of the journals; those of shards are in folders within.
        is_soft: True where the truth holds alpha.
        workers: processes; 1: this one.
        runners: file name → its open runner, for this process.
        notes: counts what the loader converted, of the photos that were read.
        shard: the part of the photos to score here; that of all also takes what shards have scored.
    """

    model_files: Sequence[ModelFile]
    dataset: Dataset
    split: str
    conditions: Sequence[str]
    folder: Path
    is_soft: bool = False
    workers: int = 1
    runners: Mapping[str, Runner] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    shard: Shard = Shard()  # noqa: RUF009
    _journals: dict[tuple[str, str], Journal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = tuple(sorted(self.dataset.keys(self.split)))
        shared = {
            "split": self.split,
            "sha256_16": self.dataset.split_hash(self.split),
            "is_soft": self.is_soft,
            "tools": {name: metadata.version(name) for name in _TOOLS},
        }
        shards = sorted(self.folder.glob(SHARDS))
        is_one_of_many = self.shard.parts > 1
        # other machines may have the photos elsewhere, or a copy of them
        of_shards = (
            {"photos": identify_photos(self.dataset, self.keys, is_copy=True)} if is_one_of_many or shards else {}
        )
        here = of_shards if is_one_of_many else {"photos": identify_photos(self.dataset, self.keys)}
        shard_folder = self.folder / shard_name(self.shard) if is_one_of_many else self.folder
        for model_file in self.model_files:
            for condition in self.conditions:
                refiner = _refiner(model_file, condition)
                identity = {**shared, "file": identify_file(model_file), "condition": condition}
                if refiner is not None:
                    identity["refine"] = asdict(refiner)
                name = hashlib.sha256(f"{model_file.name}\n{self.split}\n{condition}".encode()).hexdigest()[:24]
                names = columns(self.is_soft, refiner is not None)
                journal = Journal(shard_folder / f"{name}.scores", {**identity, **here}, names, len(self.keys))
                for folder in shards:
                    if folder != shard_folder and (path := folder / f"{name}.scores").exists():
                        journal.adopt(path, {**identity, **of_shards}, is_copied=not is_one_of_many)
                self._journals[model_file.name, condition] = journal

    @property
    def photos(self) -> int:
        """Photos to be scored here."""
        return len(self.keys[self.shard.part])

    @property
    def photos_done(self) -> int:
        """Of these, the ones on which all files are scored."""
        return self.photos - int(self._missing()[self.shard.part].sum())

    def missing_shards(self) -> dict[Shard, int]:
        """Shard → how many photos neither it nor another has scored, where there are some."""
        missing, parts = self._missing(), self.shard.parts
        shards = {shard: int(missing[shard.part].sum()) for shard in (Shard(index, parts) for index in range(parts))}
        return {shard: photos for shard, photos in shards.items() if photos}

    def run(self) -> Iterator[int]:
        """Scores what is missing.

        Yields:
            How many more photos are done; after the last one `result` is there.

        Raises:
            InputError: an unreadable photo, one without a truth mask, a process that died, a full disk.
        """
        yield self.photos_done
        for chunk, values, notes in self._results():
            for (name, condition), chunk_values in zip(chunk.work, values, strict=True):
                self._journals[name, condition].append(np.array(chunk.indices, np.int64), chunk_values)
            for note in notes:
                self.notes[note] = self.notes.get(note, 0) + 1
            yield len(chunk.indices)

    def result(self, condition: str) -> dict[str, FileScores]:
        """File name → its scores under a condition, once all photos are done."""
        return {
            model_file.name: FileScores(self.keys, self._journals[model_file.name, condition])
            for model_file in self.model_files
        }

    def _results(self) -> Iterator[tuple[Chunk, list[np.ndarray], list[str]]]:
        if self.workers == 1:
            worker = _Worker(self.model_files, self.is_soft, self.runners, is_stopped=lambda: False)
            yield from ((chunk, *worker.score(self.dataset, chunk)) for chunk in self._chunks())
            return
        with _pool(self.workers, self.is_soft, self.model_files) as pool:
            pending: deque[tuple[Chunk, Future[Scored]]] = deque()
            for chunk in self._chunks():
                # a list of all photos in each process would make as many times its memory
                pending.append((chunk, pool.submit(_score, self.dataset.excerpt(chunk.keys), chunk)))
                # no more in flight than keeps all of them busy: results would pile up
                if len(pending) >= 2 * self.workers:
                    yield _taken(*pending.popleft())
            while pending:
                yield _taken(*pending.popleft())

    def _missing(self) -> Bool[np.ndarray, " n"]:
        """Of all photos of the split, those that some file has no scores of."""
        return ~np.all([journal.done for journal in self._journals.values()], axis=0)

    def _chunks(self) -> Iterator[Chunk]:
        indices = np.arange(len(self.keys))[self.shard.part]
        indices = indices[self._missing()[indices]]
        photos = max(1, CHUNK // len(self._journals))
        for start in range(0, len(indices), photos):
            part = indices[start : start + photos]
            # a file that has some of these already is scored on all of them again: the same figures
            work = tuple(name for name, journal in self._journals.items() if not journal.done[part].all())
            yield Chunk(tuple(self.keys[index] for index in part), tuple(int(index) for index in part), work)


def shard_name(shard: Shard) -> str:
    """The folder of a shard's journals; see `SHARDS`."""
    return f"shard-{shard.number + 1}-of-{shard.parts}"


def processes(workers: int | None, photos: int) -> int:
    """How many to use: as asked for, else one for each core where there are photos enough."""
    return workers or (cores() if photos >= LEAST_PHOTOS else 1)


def identify_file(model_file: ModelFile) -> str:
    """Hash of what the scores of a file follow from: its bytes, and how a peer is described."""
    return model_file.sha256 or files.sha256_with_spec(model_file.path)


def identify_photos(dataset: Dataset, keys: Sequence[str], is_copy: bool = False) -> str:
    """Hash of what the photos are: their folder and, where they are files of a folder, sizes and times of change.

    Args:
        dataset: with the photos.
        keys: of a split.
        is_copy: True gives all copies of the photos one hash: by sizes, and the pixels of some.
    """
    digest = hashlib.sha256()
    if isinstance(dataset, MixedDataset):
        for name, member in dataset.members.items():
            stems = [key.partition("/")[2] for key in keys if key.partition("/")[0] == name]
            digest.update(f"{name} {identify_photos(member, stems, is_copy)}\n".encode())
        return digest.hexdigest()
    simple = {column.name: getattr(dataset, column.name) for column in dataclasses.fields(dataset)}
    # that masks are binary was so before they could be otherwise
    beside: tuple[str, ...] = ("splits", "suffixes", "warnings", "remarks", "meanings")
    if is_copy:
        beside += ("name", "root", "place")
        digest.update(hash_photos(dataset, keys).encode())
    known = {name: _text(value) for name, value in simple.items() if name not in beside}
    if isinstance(dataset, FolderDataset) and dataset.has_classes:
        known["meanings"] = str({name: meaning.setting for name, meaning in sorted(dataset.meanings.items())})
    digest.update(json.dumps([type(dataset).__name__, known], sort_keys=True).encode())
    for key in keys:
        digest.update(f"{key}\n".encode())
        if isinstance(dataset, FolderDataset):
            for path in filter(None, dataset.files(key)):
                stat = path.stat()
                digest.update(f"{stat.st_size} {0 if is_copy else stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _text(value: object) -> str:
    # the text of a long array leaves out its middle
    return hashlib.sha256(value.tobytes()).hexdigest() if isinstance(value, np.ndarray) else str(value)


def _taken(chunk: Chunk, future: "Future[Scored]") -> tuple[Chunk, list[np.ndarray], list[str]]:
    try:
        return (chunk, *future.result())
    except BrokenProcessPool as error:
        raise InputError(
            "a process that scores photos died, as for want of memory: what was scored is kept; run the command again"
            " with fewer processes (--workers)"
        ) from error


@contextmanager
def _pool(workers: int, is_soft: bool, model_files: Sequence[ModelFile]) -> Iterator[ProcessPoolExecutor]:
    # spawn: the runtimes' threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    arguments = (is_soft, tuple(model_files), stop)
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=arguments)
    try:
        yield pool
    except BaseException:
        # on a slow machine the chunks in flight take minutes
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Stopped(Exception):
    """The parent was interrupted: what is half done is left."""


class _Worker:
    """Scores chunks; the files stay open from one to the next."""

    def __init__(
        self,
        model_files: Sequence[ModelFile],
        is_soft: bool,
        runners: Mapping[str, Runner],
        is_stopped: Callable[[], bool],
    ) -> None:
        self.model_files = {model_file.name: model_file for model_file in model_files}
        self.is_soft, self.runners, self.is_stopped = is_soft, runners, is_stopped

    def score(self, dataset: Dataset, chunk: Chunk) -> Scored:
        """Scores by (photo, column) for each work, and the notes of the loader.

        Raises:
            Stopped: nobody wants them any more.
        """
        refiners = [_refiner(self.model_files[name], condition) for name, condition in chunk.work]
        names = [columns(self.is_soft, refiner is not None) for refiner in refiners]
        values = [np.zeros((len(chunk.keys), len(score_names)), np.float64) for score_names in names]
        notes: list[str] = []
        for row, key in enumerate(chunk.keys):
            sample = dataset.load(key)
            notes += sample.notes
            truth = truth_of(sample)
            for number, (name, condition) in enumerate(chunk.work):
                if self.is_stopped():
                    raise Stopped
                runner = self.runners[name]
                image, mask = ALL_CONDITIONS[condition](sample.image, truth, runner.size)
                ignore = _moved(sample, condition, runner.size)
                scores = score_image(runner, image, mask, self.is_soft, ignore, refiners[number])
                values[number][row] = [scores[column] for column in names[number]]
        return values, notes


def _refiner(model_file: ModelFile, condition: str) -> EdgeRefiner | None:
    """Refined masks are scored of the photos as they are alone."""
    return model_file.refiner if condition == CLEAN else None


def _moved(sample: Sample, condition: str, size: tuple[int, int]) -> np.ndarray | None:
    """The ignored pixels under a condition, which may turn the photo or take its person elsewhere without them."""
    if sample.ignore is None or condition == "distant":
        return None
    pixels = np.where(sample.ignore, np.uint8(255), np.uint8(0))
    return ALL_CONDITIONS[condition](sample.image, pixels, size)[1] > 0


_worker: _Worker


def _start_worker(is_soft: bool, model_files: tuple[ModelFile, ...], stop: Event) -> None:
    global _worker
    settle()
    runners = {model_file.name: open_file(model_file, threads=1) for model_file in model_files}
    _worker = _Worker(model_files, is_soft, runners, stop.is_set)


def _score(dataset: Dataset, chunk: Chunk) -> Scored:
    return _worker.score(dataset, chunk)
