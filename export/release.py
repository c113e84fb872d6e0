"""Makes a run one that can be committed: of its exported files those for apps, and its weights, each under 8 MB."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from export import golden, handout
from export.stage import RECOMMENDED_NAME, recommend, verified_source
from export.targets import TARGETS, Target
from portraitseg import files, manifest
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import FileEntry, Manifest
from portraitseg.models import checkpoint
from portraitseg.runs import Run

#: Recipes of released files: those that `recommended.json` can name, and bytes in and out. The others are for tables.
RECIPES = ("fp16", "qat_wi8_ai8", "qat_wi8_ai8_u8", "mixed_wi8_ai8", "int8", "palette6")

#: Greatest size of a file in the repository, bytes.
MAX_BYTES = 8_000_000

#: Where released weights lie.
WEIGHTS = Path("weights")


def release(run: Run, targets: Sequence[str] = ("android", "ios")) -> list[Path]:
    """Takes away what is not released from the run's folders of assets and puts its weights into weights/.

    The manifest, recommended.json and golden vectors are those of the files that stay. What goes can be exported again.

    Returns:
        What is there to be committed.

    Raises:
        InputError: nothing exported, or files of other weights than the run's.
        CheckFailed: a file over 8 MB, or golden masks out of tolerance; nothing has changed then.
    """
    # asked before the lock too, which would make the folder of a run that is a misspelling
    verified_source(run)
    with run.locked():
        source = verified_source(run)
        kept = [_reduce(run, TARGETS[name], source.weights_sha256) for name in targets]
        return [*kept, *_copy_weights(run)]


def _reduce(run: Run, target: Target, weights_sha256: str) -> Path:
    folder = target.folder(run)
    if not (folder / manifest.MANIFEST_NAME).exists():
        raise InputError(f"{folder}: nothing exported: run `make export-android` and `make export-ios` first")
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    manifest.verify(listed, folder)
    if listed.source.weights_sha256 != weights_sha256:
        raise InputError(f"{folder}: exported from other weights than {run.best}: export again")
    entries = tuple(entry for entry in listed.files if _is_released(entry, target, listed))
    if too_large := [entry.path for entry in entries if entry.bytes > MAX_BYTES]:
        raise CheckFailed(f"{', '.join(too_large)}: over {MAX_BYTES:,} bytes, too large for the repository")
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
    return folder


def _is_released(entry: FileEntry, target: Target, listed: Manifest) -> bool:
    return entry.recipe in RECIPES or entry.path in recommend(listed, target).values()


def _copy_weights(run: Run) -> list[Path]:
    height, width = checkpoint.read_header(run.best).size
    name = f"{checkpoint.read_header(run.best).name}-{height}x{width}"
    copied = []
    for source, path in ((run.best, f"{name}.h5"), (run.qat / "best.h5", f"{name}-qat.h5")):
        if source.exists():
            with files.replacing(WEIGHTS / path) as place:
                shutil.copyfile(source, place)
            copied.append(WEIGHTS / path)
    return copied
