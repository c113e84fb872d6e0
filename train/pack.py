"""Writes photos of any format into shards, in parallel; a stopped call goes on, and each shard is read back."""

import hashlib
import io
import json
import multiprocessing
import tarfile
import zlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from portraitseg.cli import console, say
from portraitseg.config import Config
from portraitseg.data import open_dataset
from portraitseg.data.base import Dataset, Sample, hash_keys, set_of
from portraitseg.data.folder import FolderDataset
from portraitseg.data.shards import (
    BLOCK,
    INDEX_NAME,
    LIST_NAME,
    ROW,
    SCHEMA_VERSION,
    Store,
    decode_photo,
    open_shards,
    padded,
)
from portraitseg.errors import InputError
from portraitseg.workers import cores, settle

#: Of a shard: its entry of the list, but for its name, and its rows of the index.
_Written = tuple[dict[str, Any], np.ndarray]


@dataclass(frozen=True)
class _Shard:
    """What one process writes: a tar, and beside it a JSON of what is in it, for a call that goes on."""

    number: int
    keys: tuple[str, ...]
    first: int

    @property
    def name(self) -> str:
        return f"shard-{self.number:06d}.tar"

    @property
    def notes(self) -> str:
        return f"shard-{self.number:06d}.json"


def pack(config: Config, out: str, photos: int) -> None:
    """Packs all splits of the configuration's photos.

    Args:
        config: `data` and the seed, by which photos are shuffled among shards.
        out: a folder, or a prefix of an object store.
        photos: in a shard.

    Raises:
        InputError: a photo that cannot be read, a disk or store that refuses, or `out` holds shards of other photos.
    """
    dataset = open_dataset(config.data, config.seed)
    keys = sorted({key for split in dataset.splits.values() for key in split})
    if not keys:
        raise InputError(f"{dataset.name}: no photos in any split: nothing to pack")
    # any shard is a sample of all, for who reads them one after the other
    shuffled = [keys[place] for place in np.random.default_rng(config.seed).permutation(len(keys))]
    parts = [
        _Shard(number, tuple(shuffled[first : first + photos]), first)
        for number, first in enumerate(range(0, len(keys), photos))
    ]
    store = Store(out)
    origin = {"photos": hash_keys(keys), "per_shard": photos, "seed": config.seed}
    _begin(store, origin)
    made = _write_all(dataset, out, parts, config.train.workers or cores())
    _write_index(store, dataset, parts, made)
    opened = open_shards(config.data.model_copy(update={"root": out}), config.seed)
    for key in (keys[0], keys[-1]):
        opened.load(key)
    size = sum(notes["bytes"] for notes, _ in made)
    say(f"{len(keys)} photos in {len(parts)} shards, {size / 1e6:.1f} MB; train with FORMAT=shards DATA={store.place}")


def _begin(store: Store, origin: dict[str, Any]) -> None:
    name = "origin.json"
    if store.size(name) is None:
        store.write(name, json.dumps(origin).encode())
    elif json.loads(store.read(name)) != origin:
        raise InputError(f"--out {store.place}: holds shards of other photos: name another place, or delete it")


def _write_all(dataset: Dataset, out: str, parts: Sequence[_Shard], workers: int) -> list[_Written]:
    made: list[_Written] = []
    waiting: deque[Future[_Written]] = deque()
    with ProcessPoolExecutor(
        min(workers, len(parts)), multiprocessing.get_context("spawn"), initializer=settle
    ) as pool:
        try:
            for part in track(parts, "packing", console=console, transient=True, disable=not console.is_terminal):
                # not all at once: what waits holds its photos' names a second time
                waiting.append(pool.submit(_write, dataset.excerpt(part.keys), out, part))
                if len(waiting) > 2 * workers:
                    made.append(waiting.popleft().result())
            return made + [item.result() for item in waiting]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _write(dataset: Dataset, out: str, part: _Shard) -> _Written:
    """One shard: what is noted of it, and its rows; one that is there already is read back and kept."""
    store = Store(out)
    if store.size(part.notes) is not None and store.size(part.name) is not None:
        notes = json.loads(store.read(part.notes))
        if notes["sha256"] == hashlib.sha256(store.read(part.name)).hexdigest():
            return _split_off_rows(part, notes)
    content, rows = io.BytesIO(), []
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, key in enumerate(part.keys, part.first):
            rows.append(_add(tar, f"{number:09d}", dataset, key))
    data = content.getvalue()
    notes = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "photos": len(rows), "rows": rows}
    store.write(part.name, data)
    # last: without it the shard is not there
    store.write(part.notes, json.dumps(notes).encode())
    return _split_off_rows(part, notes)


def _split_off_rows(part: _Shard, notes: dict[str, Any]) -> _Written:
    """The rows as bytes: as lists of numbers, those of a million photos are 250 MB."""
    rows = np.array([(row[0], part.number, *row[1:]) for row in notes["rows"]], dtype=ROW)
    return {name: notes[name] for name in ("sha256", "bytes", "photos")}, rows


def _add(tar: tarfile.TarFile, name: str, dataset: Dataset, key: str) -> list[int]:
    """Adds a photo; where it begins, its lengths and the checksum."""
    sample = dataset.load(key)
    suffix, photo = _encode(dataset, sample)
    mask = b"" if sample.mask is None else _png(sample.mask)
    ignore = b"" if sample.ignore is None else _png(np.where(sample.ignore, 255, 0).astype(np.uint8))
    begin = tar.offset + BLOCK
    parts = [(suffix, photo), ("mask.png", mask), ("ignore.png", ignore), ("key.txt", key.encode())]
    for ending, content in parts:
        if content:
            header = tarfile.TarInfo(f"{name}.{ending}")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    assert tar.offset == begin - BLOCK + sum(BLOCK + padded(len(content)) for _, content in parts if content)
    return [begin, len(photo), len(mask), len(ignore), zlib.crc32(photo + mask + ignore)]


def _encode(dataset: Dataset, sample: Sample) -> tuple[str, bytes]:
    """The photo's own file where it decodes to the very pixels, else a PNG of them."""
    if isinstance(dataset, FolderDataset):
        path, _ = dataset.files(sample.key)
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"):
            content = path.read_bytes()
            if np.array_equal(decode_photo(content), sample.image):
                return path.suffix.lower().removeprefix("."), content
    return "png", cv2.imencode(".png", cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _png(mask: np.ndarray) -> bytes:
    return cv2.imencode(".png", mask)[1].tobytes()


def _write_index(store: Store, dataset: Dataset, parts: Sequence[_Shard], made: Sequence[_Written]) -> None:
    keys = np.array([key.encode() for part in parts for key in part.keys])
    rows = np.concatenate([rows for _, rows in made])
    order = np.argsort(keys)
    keys, rows = keys[order], rows[order]
    splits = {
        f"split/{name}": np.searchsorted(keys, np.array([key.encode() for key in members])).astype(np.uint32)
        for name, members in dataset.splits.items()
        if members
    }
    content = io.BytesIO()
    np.savez_compressed(content, keys=keys, rows=rows.view(np.uint8), **splits)  # type: ignore[arg-type]
    store.write(INDEX_NAME, content.getvalue())
    listed = {
        "schema_version": SCHEMA_VERSION,
        "origin": dataset.name.rpartition("/")[2],
        "terms": {name: dataset.terms_of(name).model_dump() for name in sorted({set_of(key.decode()) for key in keys})},
        "has_ignored": dataset.has_ignored,
        # where there are any: all once is the rule
        "weights": dict(dataset.weights) if set(dataset.weights.values()) - {1.0} else {},
        "shards": [{"name": part.name, **notes} for part, (notes, _) in zip(parts, made, strict=True)],
    }
    store.write(LIST_NAME, (json.dumps(listed, indent=1) + "\n").encode())
