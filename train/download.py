"""A large file over HTTP: goes on where it was cut off, and is kept only with the checksum that was published."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from portraitseg.cli import console, say
from portraitseg.data.catalogue import Archive
from portraitseg.errors import CheckFailed, InputError

#: Tries without a byte of progress before it is given up, and the seconds between: doubled each time.
TRIES, FIRST_WAIT_S = 5, 1.0

#: Seconds to connect, and between two pieces.
_TIMEOUT_S = (10, 60)

#: What of a piece has come when a connection breaks is lost: small, so that a bad one gets on.
_CHUNK_BYTES = 1 << 14


def download(archive: Archive, folder: Path) -> Path:
    """Fetches an archive into a folder by pooch; what is there already, or in part, is not fetched again.

    Raises:
        InputError: the server refuses it or cannot be reached; what was fetched is kept.
        CheckFailed: its checksum is another one, twice; it is not kept.
        KeyboardInterrupt: Ctrl-C, saying what is kept.
    """
    import pooch

    # its own lines would come between ours
    pooch.get_logger().setLevel("WARNING")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{archive.name}.part"
    for is_last in (False, True):
        try:
            with _locked(part):
                path = pooch.retrieve(
                    archive.url,
                    archive.hash,
                    fname=archive.name,
                    path=folder,
                    downloader=lambda url, output, _: _fetch(url, part, archive.bytes, Path(output)),
                )
            part.unlink(missing_ok=True)
            return Path(path)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            # a part of another version of the file, perhaps: once more, from its first byte
            part.unlink(missing_ok=True)
            if is_last:
                raise CheckFailed(
                    f"{archive.url}: its checksum is not the one that was published ({archive.hash}): not kept: the "
                    "file has changed, or somebody is in between"
                ) from error
            say(f"{archive.name}: its checksum differs: fetched once more, from the beginning")
    raise AssertionError


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Two that fetch the same file would write into each other's."""
    with part.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{part}: another process is fetching it: wait for it") from error
        try:
            yield
        finally:
            part.with_suffix(".lock").unlink(missing_ok=True)


def _fetch(url: str, part: Path, expected: int, output: Path) -> None:
    """Fetches into `part`, which stays when it is cut off; whole, it takes the place of `output`."""
    import requests

    tries, wait_s = TRIES, FIRST_WAIT_S
    with _bar(part.stem, expected) as show:
        while True:
            before = _size(part)
            try:
                _go_on(url, part, show)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                why = type(error).__name__
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(f"{_size(part) / 1e6:.1f} of {expected / 1e6:.1f} MB are kept") from error
            else:
                why = f"{_size(part):,} of {expected:,} bytes"
            if _size(part) >= expected:
                break
            tries, wait_s = (TRIES, FIRST_WAIT_S) if _size(part) > before else (tries - 1, 2 * wait_s)
            if tries <= 0:
                raise InputError(
                    f"{url}: cut off ({why}) {TRIES} times in a row; what came is kept: run the command again to go on"
                )
            time.sleep(wait_s)
    part.replace(output)


def _go_on(url: str, part: Path, show: Any) -> None:
    """One request, for what is missing.

    Raises:
        InputError: the server refuses.
    """
    import requests

    have = _size(part)
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            # what is there is longer than the file: it is of another one
            part.unlink()
            return
        if answer.status_code >= 500:
            raise requests.ConnectionError(f"{answer.status_code}")
        if answer.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise InputError(
                f"{url}: the server answers {answer.status_code} {answer.reason}: has it moved? See the set's page"
            )
        goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if have and not (answer.status_code == requests.codes.partial_content and goes_on):
            # a server that knows no ranges sends all of it
            have = 0
        with part.open("ab" if have else "wb") as file:
            _receive(answer, file, have, show)


def _receive(answer: Any, file: Any, have: int, show: Any) -> None:
    for chunk in answer.iter_content(_CHUNK_BYTES):
        file.write(chunk)
        have += len(chunk)
        show(have)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextmanager
def _bar(name: str, expected: int) -> Iterator[Any]:
    """Progress on a terminal; in a log a line at its beginning."""
    if not console.is_terminal:
        say(f"fetching {name}, {expected / 1e6:,.1f} MB")
        yield lambda have: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=expected)
        yield lambda have: progress.update(task, completed=have)
