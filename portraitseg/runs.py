"""Where a run keeps its files: the stages meet here and nowhere else."""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portraitseg.errors import InputError
from portraitseg.manifest import ARTIFACT_NAME, MANIFEST_NAME

#: Export target → where the files of a run go.
EXPORTS = {"android": "android_assets/{}", "ios": "ios_assets/{}", "onnx": "runs/{}/onnx"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Run:
    """The paths of one run, relative to the folder in which the command was called."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"RUN={self.name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit"
            )

    @property
    def folder(self) -> Path:
        return Path("runs") / self.name

    @property
    def config(self) -> Path:
        """The resolved configuration of training."""
        return self.folder / "config.json"

    def require_config(self) -> Path:
        """`config`, once a training has saved it.

        Raises:
            InputError: none has.
        """
        if not self.config.exists():
            raise InputError(f"{self.config}: no such file: run `make train RUN={self.name}` first")
        return self.config

    @property
    def identity(self) -> Path:
        """What the training of `config` is known by (`portraitseg.identity`), written when it begins."""
        return self.folder / "identity.json"

    @property
    def artifact(self) -> Path:
        return self.folder / ARTIFACT_NAME

    @property
    def best(self) -> Path:
        """The float h5 of the epoch with the best validation IoU."""
        return self.folder / "best.h5"

    @property
    def qat(self) -> Path:
        """Folder of quantization-aware training."""
        return self.folder / "qat"

    @property
    def benchmark(self) -> Path:
        return self.folder / "benchmark"

    @property
    def exports(self) -> dict[str, Path]:
        """Export target → folder of its files."""
        return {target: Path(folder.format(self.name)) for target, folder in EXPORTS.items()}

    @property
    def manifests(self) -> dict[str, Path]:
        """Export target → its manifest, of those that were exported."""
        paths = {target: folder / MANIFEST_NAME for target, folder in self.exports.items()}
        return {target: path for target, path in paths.items() if path.exists()}

    @property
    def android(self) -> Path:
        return self.exports["android"]

    @property
    def ios(self) -> Path:
        return self.exports["ios"]

    @property
    def onnx(self) -> Path:
        return self.exports["onnx"]

    @contextmanager
    def locked(self, is_shared: bool = False, waits: bool = False) -> Iterator[None]:
        """Holds the run while a stage writes to it; the kernel lets go when the process ends, however it ends.

        Args:
            is_shared: others may hold it at the same time, if they share it too.
            waits: for the end of whoever holds it.

        Raises:
            InputError: another process holds it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            blocking = next(path for path in (self.folder, *self.folder.parents) if path.is_file())
            raise InputError(f"RUN={self.name}: {blocking} is a file: move it, or name another RUN") from error
        # for reading too: over NFS a shared lock needs that
        with (self.folder / ".lock").open("a+") as file:
            try:
                kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
                fcntl.flock(file, kind if waits else kind | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"RUN={self.name}: another process is writing to it: wait for it, or name another RUN"
                ) from error
            yield
