"""The manifest: one record that ties weights → pixels → exported file → score → latency, in both assets folders.

`manifest.json` lies beside the files that it describes; `artifact.json` in the run's folder holds the same `source` and
what each stage adds. Both are read strictly, verified by hashes and written atomically.
"""

import json
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, field_validator, model_validator

from portraitseg import files
from portraitseg.errors import InputError

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_NAME = "manifest.json"

#: Beside it: for each kind of device, the file to take.
RECOMMENDED_NAME = "recommended.json"
#: What an app is told of a folder's files, once they are released.
HANDOUT_NAME = "README.md"
ARTIFACT_NAME = "artifact.json"

#: Meaning of the channels → color of the input.
_COLORS = {"rgb": "RGB", "rgba": "RGBA"}

#: A manifest of a hundred files is a tenth of this; more is not a manifest.
MAX_BYTES = 4_000_000
_MAX_FAULTS = 1000

Use = Literal["any", "non-commercial", "unknown"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sha256Short = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Word = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSource(Record):
    """A set of photos that the weights were trained on; the hash is that of the whole split.

    Attributes:
        use: what the licence allows; None in manifests of before.
        weight: how often each of its photos came in an epoch; None: once.
    """

    set: str
    split: str
    sha256_16: Sha256Short
    licence: str
    use: Use | None = None
    citation: str | None = None
    weight: Annotated[float, Field(gt=0)] | None = None


class Derived(Record):
    """What binds the weights beside their training split: weights they began with, teachers, background-only photos."""

    kind: Literal["weights", "init", "teacher", "blank"]
    name: str
    licence: str
    use: Use
    sha256: Sha256 | None = None


class ChosenOn(Record):
    """The photos that parameters were chosen on, never a test split."""

    split: str
    sha256_16: Sha256Short


class Chosen(Record):
    """Parameters that were chosen on `val`, and on which photos."""

    @property
    def parameters(self) -> dict[str, Any]:
        """As the class that they are of takes them."""
        return self.model_dump(exclude={"chosen_on"})


class Refine(Chosen):
    """Parameters of edge refinement, as `refine.EdgeRefiner` takes them."""

    side: Annotated[int, Field(ge=1)]
    radius: Annotated[int, Field(ge=1)]
    epsilon: Annotated[float, Field(gt=0)]
    low: Share
    high: Share
    specks: Share
    holes: Share
    chosen_on: ChosenOn | None = None


class Smooth(Chosen):
    """Parameters of smoothing over time, as `smooth.MaskSmoother` takes them."""

    keep: Share
    low: Share
    high: Share
    reach: Count
    cut: Annotated[float, Field(gt=0)]
    gap_s: Annotated[float, Field(gt=0)]
    chosen_on: ChosenOn | None = None


class Source(Record):
    """Where the weights come from, and what was chosen for their masks since."""

    model: str
    config_sha256: Sha256
    git_commit: str
    seed: int
    weights_sha256: Sha256
    data: Annotated[tuple[DataSource, ...], FailFast()]
    use: Use | None = None
    derived_from: Annotated[tuple[Derived, ...], FailFast()] = ()
    tools: dict[str, str]
    refine: Refine | None = None
    smooth: Smooth | None = None


class Tensor(Record):
    """The one input or output of a file; scale and zero point only where it is quantized."""

    name: str
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], FailFast()]
    dtype: Literal["float32", "uint8", "image"]
    layout: Literal["NHWC", "NCHW"] | None = None
    color: Literal["RGB", "RGBA"] | None = None
    range: tuple[float, float]
    foreground: Literal["high"] | None = None
    scale: float | None = None
    zero_point: int | None = None


class Parity(Record):
    """The file beside the Keras model on the same photos, or why that did not run."""

    reference: str
    max_abs: float | None = None
    mean_abs: float | None = None
    mask_iou: Share | None = None
    bound: float | None = None
    passed: bool | None = None
    photos: Count | None = None
    not_run: str | None = None

    @model_validator(mode="after")
    def _ran_or_says_why_not(self) -> "Parity":
        if (self.passed is None) == (self.not_run is None):
            raise ValueError("either passed, or not_run with its reason")
        return self


class GpuCheck(Record):
    """One route over a phone's GPU delegate."""

    route: str
    verdict: Literal["passed", "failed", "not_run"]
    nodes: Count | None = None
    delegated: Count | None = None
    max_abs: float | None = None
    mean_abs: float | None = None
    mask_iou: Share | None = None
    precision: Literal["fp16", "fp32"] | None = None
    adapter: str | None = None
    driver: str | None = None
    reason: str | None = None
    conditions: str | None = None
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _says_why_not(self) -> "GpuCheck":
        if self.verdict != "passed" and not self.reason:
            raise ValueError(f"'{self.verdict}' without its reason")
        return self


class ArmCheck(Record):
    """The file on one core of a phone's processor, emulated: exact masks and instructions, no latency."""

    core: str
    verdict: Literal["passed", "failed", "not_run"]
    max_abs: float | None = None
    mean_abs: float | None = None
    mask_iou: Share | None = None
    instructions: Count | None = None
    loaded_bytes: Count | None = None
    stored_bytes: Count | None = None
    reference: str | None = None
    ratio_to_reference: float | None = None
    kernels: Annotated[tuple[str, ...], FailFast()] = ()
    reason: str | None = None

    @model_validator(mode="after")
    def _says_why_not(self) -> "ArmCheck":
        if self.verdict != "passed" and not self.reason:
            raise ValueError(f"'{self.verdict}' without its reason")
        return self


class Quality(Record):
    """Scores of the exported file on one split."""

    split: str
    sha256_16: Sha256Short
    iou: Share
    boundary_iou: Share
    miou: Share | None = None
    photos: Count


class FileEntry(Record):
    """One exported file; `path` is relative to the manifest."""

    path: str
    sha256: Sha256
    bytes: Count
    model: Word
    channels: Literal["rgb", "rgba"]
    recipe: Word
    input: Tensor
    output: Tensor
    parity: Parity
    gpu: Annotated[tuple[GpuCheck, ...], FailFast()] = ()
    arm: Annotated[tuple[ArmCheck, ...], FailFast()] = ()
    quality: Annotated[tuple[Quality, ...], FailFast()] = ()
    note: str | None = None

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value or not path.parts:
            raise ValueError("must be relative to the manifest and stay inside its folder")
        return value

    @model_validator(mode="after")
    def _says_one_thing_of_its_channels(self) -> "FileEntry":
        """The meaning of a fourth channel stands in three places: whoever reads one of them must not be misled."""
        color = _COLORS[self.channels]
        if self.input.color not in (None, color):
            raise ValueError(f"channels '{self.channels}' with an input of color '{self.input.color}', not '{color}'")
        named = [kind for kind in _COLORS if f"-{kind}-" in self.path]
        if named and named != [self.channels]:
            raise ValueError(f"channels '{self.channels}' in a file that is called {self.path}")
        return self


class Manifest(Record):
    """All exported files of one run for one platform."""

    schema_version: Literal[1] = SCHEMA_VERSION
    source: Source
    files: Annotated[tuple[FileEntry, ...], FailFast()] = ()
    # FailFast: a hostile list of a million faulty entries took 40 s

    @model_validator(mode="after")
    def _names_each_file_once(self) -> "Manifest":
        paths = [PurePosixPath(entry.path) for entry in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("names a file twice")
        return self


class Artifact(Record):
    """What a run holds: the source, and what each stage added, by stage name."""

    schema_version: Literal[1] = SCHEMA_VERSION
    source: Source
    stages: dict[str, dict[str, Any]] = {}


RecordT = TypeVar("RecordT", bound=Record)


def parse(kind: type[RecordT], text: str | bytes, origin: str) -> RecordT:
    """Reads a record from JSON.

    Raises:
        InputError: too long, not JSON, an unknown key, a wrong type; `origin` names the file.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"{origin}: over {MAX_BYTES // 10**6} MB, more than a manifest can have: is it one?")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        remedy = "take it away and " + ("train" if kind is Artifact else "export") + " the run again"
        # a million faults would be a million dictionaries
        if error.error_count() > _MAX_FAULTS:
            raise InputError(f"{origin}: {error.error_count()} faults: {remedy}") from error
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])[:200] or "file"
        raise InputError(f"{origin}: {where}: {fault['msg']}: {remedy}") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{origin}: not text: {error}") from error


def read(kind: type[RecordT], path: Path) -> RecordT:
    """Reads a manifest or an artifact from disk.

    Raises:
        InputError: missing or malformed.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: run the stage that writes it first") from error
    except OSError as error:
        raise InputError(f"{path}: {files.explain(error)}") from error
    return parse(kind, text, str(path))


def dump_list(records: Iterable[Record]) -> str:
    """Records as one line of JSON."""
    return json.dumps([record.model_dump(mode="json", exclude_none=True) for record in records], ensure_ascii=False)


def write(path: Path, record: Record) -> None:
    """Writes a manifest or an artifact atomically."""
    files.write_json(path, record.model_dump(mode="json"))


def verify(manifest: Manifest, folder: Path) -> None:
    """Compares every file with its hash.

    Raises:
        InputError: a file that is missing or differs.
    """
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path}: named in {MANIFEST_NAME} but missing: export the run again")
        if files.sha256(path) != entry.sha256:
            raise InputError(f"{path}: its SHA-256 differs from {MANIFEST_NAME}: export the run again")


def extended(path: Path, source: Source, entries: list[FileEntry]) -> Manifest:
    """The manifest at `path` with more files, which replace those of the same path; one of another source starts anew.

    Nothing is written: files and manifest are to change together. Scores and instructions belong to a file's bytes: an
    entry whose hash is the same as before keeps them. Files of an older source are not listed any more: their weights
    are not these.
    """
    kept: dict[str, FileEntry] = {}
    if path.exists():
        previous = read(Manifest, path)
        if previous.source.weights_sha256 == source.weights_sha256:
            kept = {entry.path: entry for entry in previous.files}
            # chosen for these weights after they were exported
            chosen = {
                "refine": source.refine or previous.source.refine,
                "smooth": source.smooth or previous.source.smooth,
            }
            source = source.model_copy(update=chosen)
    for entry in entries:
        old = kept.get(entry.path)
        same = old if old and old.sha256 == entry.sha256 else entry
        kept[entry.path] = entry.model_copy(update={"quality": same.quality, "arm": same.arm})
    return Manifest(source=source, files=tuple(kept[path] for path in sorted(kept)))


def add_stage(path: Path, source: Source, stage: str, facts: dict[str, Any]) -> None:
    """Records what a stage did in `artifact.json`; new weights drop what later stages said of the old ones."""
    stages: dict[str, dict[str, Any]] = {}
    if path.exists():
        previous = read(Artifact, path)
        if previous.source.weights_sha256 == source.weights_sha256:
            stages = dict(previous.stages)
    stages[stage] = facts
    write(path, Artifact(source=source, stages=stages))


def schema() -> str:
    """The JSON schema of `manifest.json`, as committed in docs/manifest.schema.json."""
    return json.dumps(Manifest.model_json_schema(), indent=2) + "\n"


def tool_versions(*packages: str) -> dict[str, str]:
    """Installed versions of the named distributions."""
    return {package: metadata.version(package) for package in packages}


def git_commit() -> str:
    """The commit of the checkout, with `+dirty` where tracked files differ; `unknown` outside git."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
