"""`portraitseg segment`: which inputs become which outputs, and the photos among them, several at a time."""

import glob
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from portraitseg import cli
from portraitseg.data.reading import PHOTO_SUFFIXES
from portraitseg.errors import CheckFailed, InputError
from portraitseg.segment import pictures
from portraitseg.segment.pictures import Background, Output
from portraitseg.segment.segmenter import Segmenter

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")

#: What a video's result is saved as where only a folder is named.
_VIDEO_OUT: dict[Output, str] = {"cutout": ".webm"}


@dataclass(frozen=True)
class Job:
    """One input and the file that is made of it."""

    source: Path
    destination: Path

    @property
    def is_video(self) -> bool:
        return self.source.suffix.lower() in VIDEO_SUFFIXES


@dataclass
class Batch:
    """What was asked for, of all inputs alike.

    Attributes:
        make: opens the network, once for each thread.
        output, background: what is made.
        overwrite: False leaves a file that is there already.
        smooth: of videos: True, False or None, which is True.
        threads: photos at a time, and threads of the network in a video.
        failures: what went wrong, a line an input; `partial`: videos of which a part was kept.
    """

    make: Callable[[int], Segmenter]
    output: Output = "mask"
    background: Background | None = None
    overwrite: bool = False
    smooth: bool | None = None
    threads: int = 1
    failures: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)

    def run(self, jobs: Sequence[Job]) -> int:
        """Makes what is missing.

        Returns:
            How many files were made.

        Raises:
            InputError: nothing but bad input was given, or some of it (the rest is made first).
            CheckFailed: a truncated video, of which the readable part was kept.
            KeyboardInterrupt: Ctrl-C, with a line of how far it came; what was made stays.
        """
        todo = [job for job in jobs if self.overwrite or not job.destination.exists()]
        if there := len(jobs) - len(todo):
            cli.say(f"{there} of {len(jobs)} are there already: left as they are (--overwrite makes them anew)")
        photos, videos = [job for job in todo if not job.is_video], [job for job in todo if job.is_video]
        if videos:
            from portraitseg.segment.video import require_av

            require_av()
        done = self._photos(photos)
        for index, job in enumerate(videos):
            try:
                done += self._attempt(self._video, job)
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(f"{index} of {len(videos)} videos are done") from error
        self._report(len(jobs))
        return done

    def _report(self, count: int) -> None:
        if self.failures:
            if count == 1:
                raise InputError(self.failures[0])
            for failure in self.failures:
                cli.warn(failure)
            if count == len(self.failures):
                raise InputError(f"nothing could be made of any of the {count} inputs (see above)")
            raise InputError(
                f"{len(self.failures)} of {count} inputs could not be used (see above); the others are done"
            )
        if self.partial:
            raise CheckFailed("; ".join(self.partial))

    def _photos(self, jobs: Sequence[Job]) -> int:
        if not jobs:
            return 0
        local = threading.local()
        # a model that cannot be opened is one line, not one for each photo
        first = [self.make(1)]

        def work(job: Job) -> str | None:
            if not hasattr(local, "segmenter"):
                local.segmenter = first.pop() if first else self.make(1)
            return self._photo(local.segmenter, job)

        workers = min(self.threads, len(jobs))
        done = 0
        with progress("photos", len(jobs)) as advance, _Threads(workers) as pool:
            pending = [pool.submit(work, job) for job in jobs]
            try:
                for future in as_completed(pending):
                    done += self._attempt(_result, future)
                    advance(1)
            except KeyboardInterrupt as error:
                # those that run are finished: they take less than a second
                pool.shutdown(wait=True, cancel_futures=True)
                finished = sum(not future.cancelled() for future in pending)
                raise KeyboardInterrupt(f"{finished} of {len(jobs)} photos are done") from error
        return done

    def _attempt(self, work: Callable[[Any], str | None], what: Any) -> bool:
        try:
            note = work(what)
        except InputError as error:
            self.failures.append(str(error))
            return False
        except CheckFailed as error:
            self.partial.append(str(error))
            return True
        if note:
            cli.warn(note)
        return True

    def _photo(self, segmenter: Segmenter, job: Job) -> str | None:
        segmentation = segmenter.segment(job.source)
        pixels = pictures.render(segmentation, self.output, self.background)
        pictures.write(job.destination, pixels, pictures.color_profile(job.source))
        return f"photo {job.source}: nobody was found in it: the mask is empty" if segmentation.is_empty else None

    def _video(self, job: Job) -> str | None:
        from portraitseg.segment.video import segment_video

        segmenter = self.make(self.threads)
        smoother = None if self.smooth is False else segmenter.smoother()
        return segment_video(segmenter, job.source, job.destination, self.output, self.background, smoother)


def plan(inputs: Sequence[str], out: Path, output: Output, recursive: bool = False) -> list[Job]:
    """Inputs and what is made of them, in the order given.

    Args:
        inputs: photos, videos, folders of them, or patterns with `*` (`**` is any folders). What lies in folders below
            the one that is named, or below a pattern's first `*`, lies in such folders of `out`.
        out: a folder; or, for a single photo or video, a file.
        output: what is made.
        recursive: folders are taken with the folders in them, but hidden ones and `out` itself.

    Raises:
        InputError: a missing input, an unknown kind of file, a folder or pattern without photos and videos, two inputs
            with one output, an output that is an input or a folder, an output of the wrong kind.
    """
    parents: dict[Path, Path] = {}
    for given in inputs:
        root, photos = _expand(given, out, recursive)
        for path in photos:
            parents.setdefault(path, path.parent.relative_to(root))
    sources = list(parents)
    if len(sources) == 1 and len(inputs) == 1 and out.suffix and not out.is_dir() and not Path(inputs[0]).is_dir():
        jobs = [Job(sources[0], out)]
    else:
        if out.exists() and not out.is_dir():
            raise InputError(f"--out {out}: a file, and {len(sources)} outputs need a folder: name one")
        if out.suffix.lower() in (*pictures.WRITTEN, *VIDEO_SUFFIXES) and not out.is_dir():
            raise InputError(f"--out {out}: the name of one file, and {len(sources)} outputs need a folder: name one")
        jobs = [Job(path, out / parent / f"{path.stem}{_suffix(path, output)}") for path, parent in parents.items()]
    taken: dict[Path, Path] = {}
    for job in jobs:
        _check_job(job, output)
        if (other := taken.setdefault(job.destination, job.source)) != job.source:
            raise InputError(
                f"{other} and {job.source}: both would become {job.destination}: rename one, or take two folders"
                " (--recursive keeps those inside a folder apart)"
            )
    real = {source.resolve() for source in sources}
    for job in jobs:
        if job.destination.resolve() in real:
            raise InputError(f"--out {out}: {job.destination} would replace an input: name another folder")
        if job.destination.is_dir():
            raise InputError(f"--out {out}: {job.destination} is a folder: move it, or name another --out")
    return jobs


def _check_job(job: Job, output: Output) -> None:
    if job.is_video:
        from portraitseg.segment.video import check_container

        check_container(job.destination, output)
    else:
        pictures.check_suffix(job.destination, output)


def _suffix(source: Path, output: Output) -> str:
    if source.suffix.lower() in VIDEO_SUFFIXES:
        return _VIDEO_OUT.get(output, ".mp4")
    return pictures.SUFFIXES[output]


def _expand(given: str, out: Path, recursive: bool) -> tuple[Path, list[Path]]:
    """What an input names, and the folder from which the outputs take their place."""
    known = (*PHOTO_SUFFIXES, *VIDEO_SUFFIXES)
    path = Path(given)
    if path.is_dir():
        usable = sorted(_usable(_inside(path, recursive), path, out))
        if not usable:
            has_folders = not recursive and any(child.is_dir() for child in path.iterdir())
            below = " (there are folders in it: --recursive takes them too)" if has_folders else ""
            raise InputError(f"{path}: no photos or videos in it{below}: {', '.join(known)}")
        return path, usable
    if not path.exists() and glob.has_magic(given):
        names = glob.iglob(given, recursive=True)  # noqa: PTH207 - a pattern may begin at the root
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        usable = sorted(_usable(map(Path, names), root, out))
        if not usable:
            raise InputError(f"{given}: matches no photo or video")
        return root, usable
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix.lower() not in known:
        raise InputError(f"{path}: neither a photo nor a video by its name: {', '.join(known)}")
    return path.parent, [path]


def _inside(folder: Path, recursive: bool) -> Iterator[Path]:
    """The files of a folder; no links to folders are followed, which may lead in circles."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (Path(parent) / name for name in names if not name.startswith("."))


def _usable(paths: Iterable[Path], root: Path, out: Path) -> Iterator[Path]:
    """Photos and videos, without what an earlier call made in a folder below the one that is read."""
    made = out.resolve() if root.resolve() in out.resolve().parents else None
    for path in paths:
        is_made = made is not None and made in path.resolve().parents
        if path.suffix.lower() in (*PHOTO_SUFFIXES, *VIDEO_SUFFIXES) and path.is_file() and not is_made:
            yield path


def _result(future: "Future[str | None]") -> str | None:
    return future.result()


class _Threads(ThreadPoolExecutor):
    """Threads for photos: decoding, networks and OpenCV all run without Python's lock."""

    def __init__(self, workers: int) -> None:
        import cv2

        if workers > 1:
            # else each of ours would start as many of OpenCV's
            cv2.setNumThreads(1)
        super().__init__(workers)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} {self._unit}/s" if task.speed else "", style="progress.data.speed")


class progress:  # noqa: N801 - used as a function
    """A bar with the rate and the time left, on a terminal; yields what counts it on."""

    def __init__(self, unit: str, total: int | None, label: str = "") -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(unit),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=cli.console, transient=True, disable=not cli.console.is_terminal)
        self._task = self._bar.add_task(label or unit, total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda count: self._bar.update(self._task, advance=count)

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._bar.stop()
