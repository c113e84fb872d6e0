"""Format `shards`: many photos in few tar files, in a folder or an object store, as `python -m train pack` writes them.

Each tar is what WebDataset reads: `<number>.jpg`, `<number>.mask.png`, `<number>.ignore.png`, `<number>.key.txt`. An
index says where each photo lies, so that photos are read one by one in any order, which a training shuffles as it does
those of a folder: the batches are the same to the bit. Nothing is copied, and memory holds the index alone.
"""

import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from portraitseg import files, terms
from portraitseg.config import DataConfig
from portraitseg.data import reading
from portraitseg.data.base import Dataset, Sample
from portraitseg.errors import InputError

LIST_NAME, INDEX_NAME = "shards.json", "index.npz"

SCHEMA_VERSION = 1

#: Of a tar: headers and contents begin at multiples of it.
BLOCK = 512

#: One row a photo, sorted by key: where it begins in its shard, lengths (0: there is none), CRC-32 of the contents.
ROW = np.dtype([("offset", "<u8"), *((name, "<u4") for name in ("shard", "photo", "mask", "ignore", "crc"))])

#: Questions to a store at once.
_REQUESTS = 16

_SCHEME = re.compile(r"([a-z][a-z0-9+]+):/+(.*)")

_PACK = "pack it anew: python -m train pack"


def is_remote(place: str) -> bool:
    """Whether it is of an object store, and no path."""
    return _SCHEME.fullmatch(place) is not None


class Store:
    """A folder, or a prefix of an object store that fsspec knows: `s3://bucket/photos`, `memory://a`."""

    def __init__(self, place: str) -> None:
        found = _SCHEME.fullmatch(place)
        # a Path has made one slash of two
        self.place = f"{found[1]}://{found[2]}".rstrip("/") if found else place
        self._is_remote = found is not None

    def path(self, name: str) -> str:
        """The name of a file, for messages."""
        return f"{self.place}/{name}"

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Reads a file, or a part of it.

        Raises:
            InputError: there is no such file, or the store refuses.
        """
        try:
            if self._is_remote:
                end = None if length is None else start + length
                return bytes(_filesystem(self.place).cat_file(self.path(name), start=start, end=end))
            with Path(self.path(name)).open("rb") as file:
                file.seek(start)
                return file.read(-1 if length is None else length)
        except Exception as error:
            raise self._refusal(name, error) from error

    def size(self, name: str) -> int | None:
        """Bytes of a file; None: there is none.

        Raises:
            InputError: the store refuses.
        """
        try:
            if self._is_remote:
                return int(_filesystem(self.place).size(self.path(name)))
            return Path(self.path(name)).stat().st_size
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._refusal(name, error) from error

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file.

        Raises:
            InputError: a full disk, or a store that refuses.
        """
        if not self._is_remote:
            files.write_bytes(Path(self.path(name)), content)
            return
        try:
            _filesystem(self.place).pipe_file(self.path(name), content)
        except FileNotFoundError as error:
            raise InputError(f"{self.path(name)}: no such bucket: make it first, or name another") from error
        except Exception as error:
            raise self._refusal(name, error) from error

    def _refusal(self, name: str, error: Exception) -> Exception:
        """In one line; errors that are our own fault stay what they are."""
        if isinstance(error, FileNotFoundError):
            return InputError(f"{self.path(name)}: no such file: {_PACK}, or name the folder that holds {LIST_NAME}")
        if isinstance(error, PermissionError) or "credential" in f"{type(error).__name__} {error}".lower():
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            return InputError(f"{self.path(name)}: access refused ({told}): see the credentials of this machine")
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            return InputError(f"{self.place}: no store is known by this: write s3://bucket/photos, or a folder")
        if isinstance(error, ImportError):
            return InputError(f"{self.place}: {error}: pip install 'portraitseg[shards]'")
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("botocore", "aiohttp", "s3fs"):
            return InputError(f"{self.path(name)}: {str(error).splitlines()[0] if str(error) else error!r}")
        return error


@lru_cache(maxsize=4)
def _filesystem(place: str) -> Any:
    import fsspec

    return fsspec.core.url_to_fs(place)[0]


@dataclass(frozen=True)
class ShardsDataset(Dataset):
    """Photos in shards.

    Attributes:
        place: the folder or the prefix.
        shards: names of the tar files.
        index_keys: of all photos, sorted, as UTF-8.
        rows: of each of them, see `ROW`.
        with_ignored: whether masks may have pixels that nobody is to be judged by.
    """

    place: str
    shards: tuple[str, ...]
    index_keys: np.ndarray = field(repr=False)
    rows: np.ndarray = field(repr=False)
    with_ignored: bool = False

    @property
    def has_ignored(self) -> bool:
        """See `Dataset.has_ignored`."""
        return self.with_ignored

    @property
    def was_read(self) -> bool:
        """See `Dataset.was_read`."""
        return True

    def load(self, key: str) -> Sample:
        """See `Dataset.load`."""
        photo, mask, ignore = self.contents(key)
        image = decode_photo(photo)
        truth = decode_gray(mask) if mask else None
        notes = () if truth is None else tuple(f"mask: {note}" for note in reading.odd_mask(truth))
        return Sample(key, image, truth, notes, decode_gray(ignore) > 0 if ignore else None)

    def contents(self, key: str) -> tuple[bytes, bytes, bytes]:
        """The files of a photo, of its mask and of what is unknown there; empty where there is none.

        Raises:
            InputError: as `load`.
        """
        wanted = np.bytes_(key.encode())
        place = int(np.searchsorted(self.index_keys, wanted))
        if place == len(self.index_keys) or self.index_keys[place] != wanted:
            raise InputError(f"{self.name}: no photo '{key}'")
        row, name = self.rows[place], self.shards[self.rows[place]["shard"]]
        lengths = [int(row[part]) for part in ("photo", "mask", "ignore")]
        content = Store(self.place).read(name, int(row["offset"]), span(lengths))
        parts, begin = [], 0
        for length in lengths:
            parts.append(content[begin : begin + length])
            begin += padded(length) + BLOCK if length else 0
        if zlib.crc32(b"".join(parts)) != row["crc"]:
            raise InputError(f"{self.place}/{name}: photo '{key}' is damaged: copy the shard again, or {_PACK}")
        photo, mask, ignore = parts
        return photo, mask, ignore


def suffix_of(photo: bytes) -> str:
    """By what a file begins with, that of a photo's name."""
    return {b"\x89P": ".png", b"RI": ".webp"}.get(photo[:2], ".jpg")


def padded(length: int) -> int:
    """Bytes that a content takes in a tar."""
    return -(-length // BLOCK) * BLOCK


def span(lengths: list[int]) -> int:
    """Bytes from the first content of a photo to the end of its last one: headers lie between."""
    there = [length for length in lengths if length]
    return sum(padded(length) + BLOCK for length in there[:-1]) + there[-1]


def decode_photo(content: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """A JPEG, PNG or WebP as RGB, by the library that reads those of folders."""
    with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP")) as image:
        return np.asarray(image.convert("RGB"))


def decode_gray(content: bytes) -> UInt8[np.ndarray, "h w"]:
    """A PNG of one channel."""
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE))


def open_shards(config: DataConfig, seed: int) -> ShardsDataset:
    """Reads the list and the index; no photo.

    Raises:
        InputError: no shards there, a list or an index that is damaged, or a shard that is missing, of another size or
            there twice.
    """
    del seed
    store = Store(str(config.root))
    listed = _read_list(store)
    entries: list[dict[str, Any]] = listed["shards"]
    names = [str(entry["name"]) for entry in entries]
    if twice := [name for name, count in Counter(names).items() if count > 1] or _doubles(entries):
        raise InputError(f"{store.place}: shard {twice[0]} is there twice: {_PACK}")
    # a store takes its time for each of thousands
    with ThreadPoolExecutor(_REQUESTS) as pool:
        sizes = list(pool.map(store.size, names))
    for entry, size in zip(entries, sizes, strict=True):
        if size != entry["bytes"]:
            fault = "missing" if size is None else f"damaged: {size} bytes, not {entry['bytes']}"
            raise InputError(f"{store.path(entry['name'])}: {fault}: copy it again, or {_PACK}")
    try:
        with np.load(io.BytesIO(store.read(INDEX_NAME)), allow_pickle=False) as index:
            keys, rows = index["keys"], index["rows"].view(ROW).reshape(-1)
            decoded = [key.decode() for key in keys.tolist()]
            splits = {
                name.removeprefix("split/"): tuple(decoded[place] for place in index[name].tolist())
                for name in index.files
                if name.startswith("split/")
            }
        if rows["shard"].max() >= len(names):
            raise ValueError("a shard that is not listed")
        if len(rows) != len(keys) or len(rows) != sum(entry["photos"] for entry in entries):
            raise ValueError(f"{len(rows)} photos, {sum(entry['photos'] for entry in entries)} in the shards")
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{store.path(INDEX_NAME)}: damaged ({error}): {_PACK}") from error
    return ShardsDataset(
        name=store.place,
        splits=splits,
        terms=listed["terms"],
        place=store.place,
        shards=tuple(names),
        index_keys=keys,
        rows=rows,
        with_ignored=bool(listed["has_ignored"]),
        weights=listed["weights"],
        remarks=(f"packed of {listed['origin']}; what masks mean was decided then",),
    )


def _read_list(store: Store) -> Mapping[str, Any]:
    content = store.read(LIST_NAME)
    try:
        listed = json.loads(content)
        if listed["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{store.path(LIST_NAME)}: schema {listed['schema_version']}, not {SCHEMA_VERSION}: {_PACK}"
            )
        for entry in listed["shards"]:
            if re.fullmatch(r"shard-\d{6}\.tar", entry["name"]) is None:
                raise ValueError(f"a shard called {str(entry['name'])[:40]!r}")
            int(entry["bytes"]), int(entry["photos"]), str(entry["sha256"])
        str(listed["origin"]), bool(listed["has_ignored"])
        listed["weights"] = {str(name): float(weight) for name, weight in listed.get("weights", {}).items()}
        listed["terms"] = {name: terms.parse(json.dumps(own)) for name, own in listed["terms"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{store.path(LIST_NAME)}: damaged ({str(error).splitlines()[0]}): {_PACK}") from error
    return dict(listed)


def _doubles(entries: list[dict[str, Any]]) -> list[str]:
    seen: set[str] = set()
    return [entry["name"] for entry in entries if entry["sha256"] in seen or seen.add(entry["sha256"])]  # type: ignore[func-returns-value]
