"""`python -m train data`: fetches a public set, or says how to get it; then looks whether it is whole."""

import json
from pathlib import Path

from rich.table import Table
from rich.text import Text

from portraitseg import cli, files
from portraitseg.cli import say, warn
from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.data.catalogue import CATALOGUE, Entry
from portraitseg.errors import CheckFailed, InputError
from portraitseg.terms import TERMS_NAME
from train.download import download
from train.unpack import unpack

#: Beside the set: which archives were fetched and unpacked, so that a stopped call goes on.
RECORD_NAME = "fetched.json"


def show_sets() -> None:
    """Prints what there is."""
    table = Table("name", "what it is", "commercial use", "how")
    for name, entry in CATALOGUE.items():
        size = sum(archive.bytes for archive in entry.archives)
        how = f"fetched, {size / 1e9:.1f} GB" if size else "by hand"
        table.add_row(*map(Text, (name, entry.title, {"any": "yes", "unknown": "unclear"}.get(entry.use, "no"), how)))
    cli.table_console().print(table)


def fetch(name: str, folder: Path | None) -> None:
    """Gets a set into a folder; of one that takes consent or an account the steps are printed, and its folder checked.

    Licence and citation are said first, and written beside the photos as `terms.json`, from where training takes them.

    Raises:
        InputError: no such set, no folder, a server that cannot be reached, an archive that cannot be unpacked.
        CheckFailed: a checksum that differs, or a set that is not whole.
    """
    if name not in CATALOGUE:
        raise InputError(f"DATASET {name}: no such set (there are: {', '.join(CATALOGUE)})")
    entry = CATALOGUE[name]
    _introduce(name, entry)
    if not entry.archives:
        for number, step in enumerate((*entry.steps, f"make data DATASET={name} DATA=<that folder> checks it"), 1):
            say(f"{number}. {step}")
        if folder is None:
            return
        if not folder.is_dir():
            raise InputError(f"DATA {folder}: no such folder yet: follow the steps above")
    elif folder is None:
        raise InputError(f"DATASET {name}: give the folder that it goes to with DATA=")
    else:
        _get(entry, folder)
    _check(name, entry, folder)


def _introduce(name: str, entry: Entry) -> None:
    allowed = {"any": "allowed", "unknown": "unclear: ask before you rely on it", "non-commercial": "not allowed"}
    say(f"{name}: {entry.title}")
    say(f"licence: {entry.licence}; commercial use {allowed[entry.use]}")
    say(f"cite: {entry.citation}")
    say(f"page: {entry.page}")


def _get(entry: Entry, folder: Path) -> None:
    """Fetches and unpacks what is not there yet; an archive is taken away once it is unpacked."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RECORD_NAME
    try:
        done = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    except ValueError:
        done = {}
    for archive in entry.archives:
        if done.get(archive.name) == archive.hash:
            say(f"{archive.name}: was fetched and unpacked before")
            continue
        path = download(archive, folder)
        with files.scratch_folder(folder) as scratch:
            count = unpack(path, scratch)
            _merge(scratch, folder)
        done[archive.name] = archive.hash
        files.write_json(record, done)
        path.unlink()
        say(f"{archive.name}: {archive.hash}, {count} files")


def _merge(source: Path, destination: Path) -> None:
    """Moves what lies in a folder into another; files that are there are replaced: they are of a stopped call."""
    for path in sorted(source.iterdir()):
        existing = destination / path.name
        if existing.is_dir() and path.is_dir() and not existing.is_symlink():
            _merge(path, existing)
        else:
            files.remove(existing)
            path.replace(existing)


def _check(name: str, entry: Entry, folder: Path) -> None:
    """Opens the set as training does, counts its photos and says what binds them.

    Raises:
        CheckFailed: other numbers of photos than were published.
    """
    root = folder / entry.root
    config = DataConfig.model_validate({"format": entry.format, "root": root})
    dataset = open_dataset(config, seed=0)
    for line in dataset.warnings:
        warn(line)
    for line in dataset.remarks:
        say(line)
    counts = {split: len(keys) for split, keys in dataset.splits.items()}
    numbers = ", ".join(f"{split} {count}" for split, count in counts.items())
    if wrong := [
        f"{split} {counts.get(split, 0)} of {count}"
        for split, count in entry.photos.items()
        if counts.get(split) != count
    ]:
        raise CheckFailed(f"{root}: {name} is not whole: {', '.join(wrong)} photos: get it again")
    if not (root / TERMS_NAME).exists():
        files.write_json(root / TERMS_NAME, entry.terms.model_dump(mode="json"))
    say(f"{root}: {numbers} photos; train with DATA={root} FORMAT={entry.format}")
