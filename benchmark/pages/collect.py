"""Gathers from a run's folder what the report shows, and runs the files once more on the worst photos."""

from pathlib import Path

from benchmark.measuring import peers
from benchmark.measuring.measure import progress
from benchmark.measuring.model_files import FOREIGN, ModelFile
from benchmark.pages.gallery import Exhibit, exhibits
from benchmark.pages.page import Content
from benchmark.tables import history
from benchmark.tables.compare import Photos, read_photos
from benchmark.tables.results import Row, read
from portraitseg import cli, manifest, tables
from portraitseg.data.base import Dataset
from portraitseg.errors import InputError
from portraitseg.runners import NotRunnable, Runner
from portraitseg.runs import Run


def collect(run: Run, dataset: Dataset | None, photos: int, no_photos: str = "") -> Content:
    """Everything that the page of a run shows.

    Args:
        run: that was measured.
        dataset: of the photos; None: the page has none.
        photos: how many of each split, worst first.
        no_photos: why there is no dataset.

    Raises:
        InputError: a run that was not measured, or files of it that cannot be read.
    """
    folder = run.benchmark
    results = folder / "results.csv"
    if not results.exists():
        raise InputError(f"{results}: no such file: run `python -m benchmark run --run {run.name}` first")
    on_phone = folder / "device.csv"
    rows = [row for path in (results, *([on_phone] if on_phone.exists() else [])) for row in read(path).rows]
    manifests = {path.parent.as_posix(): manifest.read(manifest.Manifest, path) for path in run.manifests.values()}
    robustness, flicker = folder / "robustness.csv", folder / "flicker.csv"
    shown: list[Exhibit] = []
    if dataset is not None and photos > 0:
        shown = _exhibits(rows, dataset, read_photos(results), photos)
        no_photos = "" if shown else "No photos.csv beside the table, or none of its photos are here."
    return Content(
        run=run.name,
        rows=rows,
        manifests=manifests,
        history=history.read(folder),
        robustness=tables.read_csv(robustness) if robustness.exists() else (),
        flicker=tables.read_csv(flicker) if flicker.exists() else (),
        exhibits=shown,
        no_photos=no_photos,
    )


def _exhibits(rows: list[Row], dataset: Dataset, photos: Photos, count: int) -> list[Exhibit]:
    runners = _open(rows)
    shown: list[Exhibit] = []
    for split in dict.fromkeys(row.split for row in rows if row.split):
        known = [row.split_sha256_16 for row in rows if row.split == split]
        if split not in dataset.splits or dataset.split_hash(split) not in known:
            cli.warn(f"split '{split}' of these data is not the one that was measured: its photos are left out")
            continue
        shown += progress(exhibits(dataset, runners, photos, split, count), f"worst photos of {split}", count)
    return shown


def _open(rows: list[Row]) -> dict[str, Runner]:
    """File name → its runner, for the files with good scores that are still there."""
    runners: dict[str, Runner] = {}
    for row in rows:
        path = Path(row.file)
        if row.name in runners or not row.quality_valid or not path.exists():
            continue
        listed = None if row.recipe == FOREIGN else path.parent / manifest.MANIFEST_NAME
        try:
            model_file = ModelFile(path, row.model, row.recipe, None, 0, listed)
            peers.admit(model_file, threads=1)
            runners[row.name] = peers.open_file(model_file, threads=1)
        except (InputError, NotRunnable) as error:
            cli.warn(f"left out of the photos: {error}")
    return runners
