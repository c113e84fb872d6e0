"""Makes a run one that can be committed: of its exported files those for apps, and its weights, each under 8 MB."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from export.publishing import golden, handout, sources
from export.stage import recommend, verified_source
from export.targets import TARGETS, Target
from portraitseg import files, manifest, terms
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import RECOMMENDED_NAME, FileEntry, Manifest
from portraitseg.models import checkpoint
from portraitseg.runs import Run

#: Greatest size of a file in the repository, bytes.
MAX_BYTES = 8_000_000

#: Where released weights lie.
WEIGHTS = Path("weights")


def release(run: Run, targets: Sequence[str] = ("android", "ios"), commercial: bool = False) -> list[Path]:
    """Takes away what is not released from the run's folders of assets and puts its weights into weights/.

    The manifest, recommended.json and golden vectors are those of the files that stay. What goes can be exported again.

    Args:
        run: exported.
        targets: whose folders are reduced.
        commercial: whether the files are for use for money: refused unless all that the weights learnt from allows it.

    Returns:
        What is there to be committed.

    Raises:
        InputError: nothing exported for one of the targets, or files of other weights than the run's.
        CheckFailed: a file over 8 MB, or what does not allow commercial use; nothing has changed then. Golden masks out
            of tolerance: that target's folder has not changed.
    """
    # asked before the lock too, which would make the folder of a run that is a misspelling
    verified_source(run)
    with run.locked():
        source = verified_source(run)
        if commercial and (bound := terms.binding(source)):
            raise CheckFailed(
                f"{run.name}: not for commercial use, by what the weights learnt from: {'; '.join(bound)}: train "
                "without these, or state what they allow (docs/data.md)"
            )
        # all is looked at before anything changes
        listed = {name: _read_listed(run, TARGETS[name], source.weights_sha256) for name in targets}
        weights = _weights(run)
        sizes = {entry.path: entry.bytes for name in targets for entry in _released(listed[name], TARGETS[name])}
        sizes |= {str(path): path.stat().st_size for path in weights}
        if too_large := [path for path, size in sizes.items() if size > MAX_BYTES]:
            raise CheckFailed(f"{', '.join(too_large)}: over {MAX_BYTES:,} bytes, too large for the repository")
        kept = [_reduce(run, TARGETS[name], listed[name]) for name in targets]
        return [*kept, *_copy_weights(weights)]


def _read_listed(run: Run, target: Target, weights_sha256: str) -> Manifest:
    folder = target.folder(run)
    if not (folder / manifest.MANIFEST_NAME).exists():
        raise InputError(f"{folder}: nothing exported: run `make export-android` and `make export-ios` first")
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    manifest.verify(listed, folder)
    if listed.source.weights_sha256 != weights_sha256:
        raise InputError(f"{folder}: exported from other weights than {run.best}: export again")
    return listed


def _released(listed: Manifest, target: Target) -> tuple[FileEntry, ...]:
    recommended = recommend(listed, target).values()
    kept = (*target.released, *target.kept)
    return tuple(entry for entry in listed.files if entry.recipe in kept or entry.path in recommended)


def _reduce(run: Run, target: Target, listed: Manifest) -> Path:
    folder = target.folder(run)
    entries = _released(listed, target)
    result = listed.model_copy(update={"files": entries})
    with files.revising(folder) as revised:
        for entry in listed.files:
            if entry not in entries:
                files.remove(revised / entry.path)
        manifest.write(revised / manifest.MANIFEST_NAME, result)
        files.write_json(revised / RECOMMENDED_NAME, recommend(result, target))
        if not golden.write(revised, result):
            raise CheckFailed(f"{folder}: no golden vectors: this network tells right pixels from wrong ones nowhere")
        golden.check(revised)
        handout.write(revised, result, recommend(result, target))
        sources.write(revised, result, recommend(result, target))
    return folder


def _weights(run: Run) -> dict[Path, str]:
    """The run's h5 files that are there → their names in weights/."""
    header = checkpoint.read_header(run.best)
    height, width = header.size
    name = f"{header.name}-{height}x{width}"
    names = {run.best: f"{name}.h5", run.qat / "best.h5": f"{name}-qat.h5"}
    return {path: name for path, name in names.items() if path.exists()}


def _copy_weights(weights: Mapping[Path, str]) -> list[Path]:
    for source, name in weights.items():
        with files.replacing(WEIGHTS / name) as copy:
            shutil.copyfile(source, copy)
    return [WEIGHTS / name for name in weights.values()]
