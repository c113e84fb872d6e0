"""Shards: what they give back is what was packed, and what is damaged, missing or double is named."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from portraitseg.config import DataConfig, parse_config
from portraitseg.data import Dataset, Sample, open_dataset, shards
from portraitseg.errors import InputError
from portraitseg.terms import Terms
from train import pack


def _config(root: Path | str, format: str = "folder", **data):
    return parse_config({"data": {"root": str(root), "format": format, **data}, "train": {"workers": 1}}, "test")


@pytest.fixture
def packed(photos, tmp_path, here):
    out = tmp_path / "packed"
    pack.pack(_config(photos), str(out), 3)
    return out


def _same(one: Dataset, other: Dataset) -> None:
    assert dict(one.splits) == dict(other.splits)
    for keys in one.splits.values():
        for key in keys:
            a, b = one.load(key), other.load(key)
            np.testing.assert_array_equal(a.image, b.image)
            assert (a.mask is None) == (b.mask is None) and (a.ignore is None) == (b.ignore is None)
            for x, y in ((a.mask, b.mask), (a.ignore, b.ignore)):
                if x is not None:
                    np.testing.assert_array_equal(x, y)


def test_what_was_packed_comes_back(photos, packed):
    dataset = open_dataset(_config(packed, "shards").data, 7)
    _same(open_dataset(_config(photos).data, 7), dataset)
    assert len(dataset.shards) == 2 and dataset.was_read
    with pytest.raises(InputError, match="no photo 'x'"):
        dataset.load("x")
    # as WebDataset reads them: one name a photo, its key inside
    with tarfile.open(packed / "shard-000000.tar") as tar:
        names = tar.getnames()
        keys = {tar.extractfile(name).read().decode() for name in names if name.endswith(".key.txt")}
    assert len(keys) == 3 and {name.partition(".")[0] for name in names} == {f"{n:09d}" for n in range(3)}


@dataclass(frozen=True)
class _Odd(Dataset):
    """Keys, masks and sizes as they come."""

    has_ignored = True

    def load(self, key):
        rng = np.random.default_rng(len(key))
        mask = None if key.endswith("none") else rng.integers(0, 256, (5, 9), np.uint8)
        ignore = rng.random((5, 9)) < 0.5 if key.endswith("ignore") else None
        return Sample(key, rng.integers(0, 256, (5, 9, 3), np.uint8), mask, (), ignore)


def test_soft_masks_unknown_pixels_and_photos_without_masks_come_back(tmp_path, here, monkeypatch):
    free, bound = Terms(licence="CC0-1.0", use="any"), Terms(licence="academic", use="non-commercial", citation="A")
    splits = {"train": ("ü/a", "b.c ignore", "d"), "unlabelled": ("s/none",)}
    odd = _Odd("odd", splits, terms={"": free, "ü": bound})
    monkeypatch.setattr(pack, "open_dataset", lambda *_: odd)
    pack.pack(_config(tmp_path), str(tmp_path / "out"), 2)
    dataset = open_dataset(_config(tmp_path / "out", "shards").data, 7)
    _same(odd, dataset)
    assert dataset.has_ignored
    # the licence of each set goes along, and the configuration's word counts
    assert [dataset.terms_of(name) for name in ("", "s", "ü")] == [free, free, bound]
    said = open_dataset(_config(tmp_path / "out", "shards", licence="MIT").data, 7)
    assert {said.terms_of(name).licence for name in ("", "ü")} == {"MIT"}


def test_a_stopped_call_goes_on_and_another_one_is_refused(photos, packed, here, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in packed.glob("*.tar")}
    (packed / "shard-000001.json").unlink()
    (packed / "shards.json").unlink()
    pack.pack(_config(photos), str(packed), 3)
    after = {path.name: path.stat().st_mtime_ns for path in packed.glob("*.tar")}
    assert after["shard-000000.tar"] == before["shard-000000.tar"]
    assert after["shard-000001.tar"] != before["shard-000001.tar"]
    # one that is damaged is written anew
    content = bytearray((packed / "shard-000000.tar").read_bytes())
    content[700] ^= 1
    (packed / "shard-000000.tar").write_bytes(content)
    pack.pack(_config(photos), str(packed), 3)
    _same(open_dataset(_config(photos).data, 7), open_dataset(_config(packed, "shards").data, 7))
    with pytest.raises(InputError, match="holds shards of other photos"):
        pack.pack(_config(photos), str(packed), 2)


def _double(packed):
    listed = json.loads((packed / "shards.json").read_text())
    listed["shards"].append({**listed["shards"][0], "name": "shard-000009.tar"})
    (packed / "shard-000009.tar").write_bytes((packed / "shard-000000.tar").read_bytes())
    (packed / "shards.json").write_text(json.dumps(listed))


def _bound(packed, terms):
    listed = json.loads((packed / "shards.json").read_text())
    (packed / "shards.json").write_text(json.dumps({**listed, "terms": terms}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "shard-000001.tar").unlink(), r"shard-000001\.tar: missing: copy it again"),
        (lambda p: (p / "shard-000001.tar").write_bytes(b"x"), r"shard-000001\.tar: damaged: 1 bytes, not \d+"),
        (_double, r"shard shard-000009\.tar is there twice"),
        (lambda p: (p / "shards.json").unlink(), r"shards\.json: no such file"),
        (lambda p: (p / "shards.json").write_text("{"), r"shards\.json: damaged"),
        (lambda p: (p / "shards.json").write_text('{"schema_version": 2}'), r"schema 2, not 1"),
        (
            lambda p: _bound(p, {"": {"licence": "MIT", "use": "all"}}),
            r"shards\.json: damaged \(1 validation error for Terms\)",
        ),
        (lambda p: _bound(p, []), r"shards\.json: damaged"),
        (lambda p: (p / "index.npz").write_bytes(b"PK"), r"index\.npz: damaged"),
    ],
)
def test_what_is_damaged_missing_or_double_is_named(packed, damage, message):
    damage(packed)
    with pytest.raises(InputError, match=message):
        open_dataset(_config(packed, "shards").data, 7)


def test_a_bit_that_turned_is_named_with_its_photo(packed):
    dataset = open_dataset(_config(packed, "shards").data, 7)
    for number, name in enumerate(dataset.shards):
        path = packed / name
        content = bytearray(path.read_bytes())
        rows = dataset.rows[dataset.rows["shard"] == number]
        content[int(rows["offset"][0]) + 3] ^= 1
        path.write_bytes(content)
    wrong = []
    for keys in dataset.splits.values():
        for key in keys:
            try:
                dataset.load(key)
            except InputError as error:
                wrong.append(str(error))
    assert len(wrong) == len(dataset.shards)
    assert all("is damaged: copy the shard again" in told for told in wrong)


def test_an_object_store_is_read_as_a_folder_is(photos, here):
    pytest.importorskip("fsspec")
    with pytest.raises(InputError, match="zz://a: no store is known by this: write s3://"):
        pack.pack(_config(photos), "zz://a", 3)
    place = f"memory://test-{photos.parent.name}/a"
    pack.pack(_config(photos), place, 3)
    # a path of the configuration has one slash less
    dataset = open_dataset(DataConfig(format="shards", root=Path(place)), 7)
    assert dataset.place == place
    _same(open_dataset(_config(photos).data, 7), dataset)


@pytest.mark.full
def test_s3_is_read_and_written_and_refusals_are_one_line(photos, monkeypatch):
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    try:
        host, port = running.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        s3fs.S3FileSystem().mkdir("photos")
        # with processes of its own, which connect by themselves
        pack.pack(_config(photos), "s3://photos/a", 3)
        _same(open_dataset(_config(photos).data, 7), open_dataset(_config("s3://photos/a", "shards").data, 7))
        with pytest.raises(InputError, match=r"s3://photos/b/shards\.json: no such file"):
            open_dataset(_config("s3://photos/b", "shards").data, 7)
        with pytest.raises(InputError, match=r"s3://none/a/origin\.json: no such bucket: make it first"):
            pack.pack(_config(photos), "s3://none/a", 3)
        shards._filesystem.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(InputError, match="access refused"):
            open_dataset(_config("s3://photos/a", "shards").data, 7)
    finally:
        running.stop()
