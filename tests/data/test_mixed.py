"""Several sets mixed: their keys, splits, weights and licences; what decides a training, and what does not."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from portraitseg import identity, manifest, terms
from portraitseg.config import Config, load_config, parse_config
from portraitseg.data import open_dataset
from portraitseg.data.base import trainable_keys
from portraitseg.data.mixed import MixedDataset
from portraitseg.errors import InputError
from tests.data import drawn
from train import pack
from train.fit import Plan, fingerprint
from train.stream import maker_of


def folders(root: Path) -> Path:
    """Eight photos with masks of 0 and 255, four with ids of which 15 is person, and two background-only."""
    drawn.write(root / "one", [drawn.binary] * 8)
    drawn.write(root / "two/train", [drawn.ids(0, 15, 255)] * 4)
    drawn.write(root / "two/test", [drawn.ids(0, 15, 255)] * 2)
    drawn.write(root / "one_with_blank/people", [drawn.binary] * 4)
    drawn.write(root / "one_with_blank/blank", [drawn.binary] * 2)
    for path in (root / "one_with_blank/blank/masks").iterdir():
        path.unlink()
    (root / "one_with_blank/blank/masks").rmdir()
    return root


def config(root: Path, *sets: dict[str, Any], **more: Any) -> Config:
    listed = [{"name": "a", "root": "one"}, {"name": "b", "root": "two"}]
    values = {"root": str(root), "val_ratio": 0.3, "sets": list(sets) or listed}
    return parse_config({"data": values, **more}, "test")


def test_keys_splits_and_masks(tmp_path: Path) -> None:
    data = open_dataset(config(folders(tmp_path)).data, 0)
    assert isinstance(data, MixedDataset)
    assert set(data.splits) == {"train", "val", "test_b"}
    assert {key.partition("/")[0] for key in data.splits["train"]} == {"a", "b"}
    for key in ("a/p003", "b/train/p001"):
        sample = data.load(key)
        assert sample.key == key and sample.mask is not None
        known = slice(None) if sample.ignore is None else ~sample.ignore
        np.testing.assert_array_equal((sample.mask > 127)[known], drawn.person(int(key[-3:]))[known])
    assert data.has_ignored
    assert data.excerpt(["b/train/p001"]).load("b/train/p001").ignore is not None
    assert [line for line in data.remarks if line.startswith("set b: masks of test, train: values 0, 15, 255")]


def test_a_fault_names_the_set(tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "two/train/masks/p001.png").unlink()
    with pytest.raises(InputError, match=r"set b: photo .*p001\.png .* has no mask"):
        open_dataset(config(tmp_path).data, 0)
    with pytest.raises(InputError, match=r"data: .*two of one name"):
        config(tmp_path, {"name": "a", "root": "one"}, {"name": "a", "root": "two"})
    with pytest.raises(InputError, match=r"data\.sets\.0\.wieght: unknown key \(known: name, "):
        config(tmp_path, {"name": "a", "root": "one", "wieght": 2})
    with pytest.raises(InputError, match="greater than 0"):
        config(tmp_path, {"name": "a", "root": "one", "weight": 0})
    with pytest.raises(InputError, match="needs a folder"):
        config(tmp_path, {"name": "a"})


def drawn_in(settings: Config, epochs: int) -> list[Counter[str]]:
    maker = maker_of(open_dataset(settings.data, 0), settings)
    return [Counter(maker._key(index, epoch) for index in range(maker._epoch_photos)) for epoch in range(epochs)]


def test_weights_say_how_often_a_photo_comes(tmp_path: Path) -> None:
    folders(tmp_path)
    sets = [{"name": "a", "root": "one", "weight": 0.5}, {"name": "b", "root": "two", "weight": 2.5}]
    settings = config(tmp_path, *sets, train={"blank_share": 0})
    data = open_dataset(settings.data, 0)
    of_a = [key for key in data.keys("train") if key.startswith("a/")]
    of_b = [key for key in data.keys("train") if key.startswith("b/")]
    epochs = drawn_in(settings, 4)
    for seen in epochs:
        assert sum(seen[key] for key in of_a) == max(1, round(len(of_a) / 2))
        assert sum(seen[key] for key in of_b) == round(2.5 * len(of_b))
        # an epoch may end one round of a set and begin the next
        assert max(seen[key] for key in of_a) <= 2 and {seen[key] for key in of_b} <= {1, 2, 3, 4}
    # nobody is left out: in four epochs each comes as often as its weight says, to within one
    total = sum(epochs, Counter())
    assert {total[key] for key in of_a} <= {1, 2, 3} and {total[key] for key in of_b} <= {9, 10, 11}
    assert epochs == drawn_in(settings, 4)


def test_without_weights_an_epoch_has_each_once(tmp_path: Path) -> None:
    settings = config(folders(tmp_path), train={"blank_share": 0})
    maker = maker_of(open_dataset(settings.data, 0), settings)
    assert maker.runs == () and set(drawn_in(settings, 1)[0].values()) == {1}


def test_background_only_photos_within_a_set(tmp_path: Path) -> None:
    folders(tmp_path)
    sets = [{"name": "a", "root": "one", "weight": 2}, {"name": "c", "root": "one_with_blank"}]
    settings = config(tmp_path, *sets, train={"blank_share": 0.2})
    data = open_dataset(settings.data, 0)
    assert trainable_keys(data, ("blank",), "val") == ("c/blank/p000", "c/blank/p001")
    maker = maker_of(data, settings)
    labelled = maker._epoch_photos - maker.blank_per_epoch
    assert maker.blank_per_epoch == round(labelled / 4) > 0
    assert all(maker._key(labelled + number, 0).startswith("c/blank/") for number in range(maker.blank_per_epoch))
    batch = maker.make(0)
    assert batch.images.shape[0] == settings.train.batch_size


def test_identity(tmp_path: Path) -> None:
    """Weights, formats and meanings decide; where photos lie and who may use them do not."""
    base = config(tmp_path)
    known = identity.of_training(base)
    for change in ({"root": "elsewhere"}, {"licence": "MIT"}, {"use": "any"}, {"citation": "x"}, {"weight": 1.0}):
        assert (
            identity.of_training(config(tmp_path, {"name": "a", "root": "one", **change}, {"name": "b", "root": "two"}))
            == known
        )
    for change in ({"weight": 2.0}, {"format": "voc"}, {"mask": "binary"}, {"name": "d"}, {"person_labels": ["x"]}):
        assert (
            identity.of_training(config(tmp_path, {"name": "a", "root": "one", **change}, {"name": "b", "root": "two"}))
            != known
        )
    assert identity.of_training(Config()) != known
    # what DATA= on a command line sets beside the sets
    moved = base.model_copy(update={"data": base.data.model_copy(update={"format": "folder", "root": Path("x")})})
    assert identity.of_training(moved) == known


def test_a_saved_configuration_reads_the_same_sets(tmp_path: Path) -> None:
    settings = config(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(settings.model_dump_json())
    assert load_config(path) == settings
    one_line = [
        "data.sets=[{name='a', root='one'}, {name='b', root='two'}]",
        f'data.root="{tmp_path}"',
        "data.val_ratio=0.3",
    ]
    assert load_config(None, one_line) == settings


def test_terms_of_each_set(tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "one/terms.json").write_text(json.dumps({"licence": "CC0-1.0", "citation": "A, 2020"}))
    (tmp_path / "two/test/terms.json").write_text(json.dumps({"licence": "academic use"}))
    data = open_dataset(config(tmp_path).data, 0)
    assert data.terms_of("a") == terms.Terms(licence="CC0-1.0", use="any", citation="A, 2020")
    assert data.terms_of("b/train").use == "unknown" and data.terms_of("b/test").use == "non-commercial"
    stated = config(tmp_path, {"name": "b", "root": "two", "licence": "own photos", "use": "any"})
    assert open_dataset(stated.data, 0).terms_of("b/train").use == "any"
    (tmp_path / "one/terms.json").write_text('{"license": "MIT"}')
    with pytest.raises(InputError, match=r"terms\.json: license: "):
        open_dataset(config(tmp_path).data, 0)


@pytest.mark.parametrize(
    ("licence", "use"),
    [
        ("Apache-2.0", "any"),
        ("CC BY 4.0", "any"),
        ("CC BY-SA 4.0", "any"),
        ("CC0-1.0", "any"),
        ("portraits drawn by this repository, Apache-2.0; derived from MediaPipe (Google, Apache-2.0)", "any"),
        ("Apache-2.0; photos of the web", "unknown"),
        ("MIT file, photo rights unclear", "unknown"),
        ("none stated", "unknown"),
        ("", "unknown"),
        ("permitted", "unknown"),
        ("CC BY-NC-SA 4.0", "non-commercial"),
        ("Apache-2.0; academic", "non-commercial"),
        ("non commercial research: EG1800", "non-commercial"),
        ("noncommercial", "non-commercial"),
    ],
)
def test_what_a_licence_allows(licence: str, use: str) -> None:
    assert terms.use_of(licence) == use
    # a text that forbids it is not talked over; one that is silent is
    assert terms.use_of(licence, "any") == ("non-commercial" if use == "non-commercial" else "any")


def test_what_binds_is_named_once(tmp_path: Path) -> None:
    of = manifest.DataSource(set="a", split="train", sha256_16="0" * 16, licence="Apache-2.0", use="any")
    nc = of.model_copy(update={"set": "b", "licence": "research", "use": "non-commercial"})
    source = manifest.Source(
        model="m",
        config_sha256="0" * 64,
        git_commit="0",
        seed=0,
        weights_sha256="0" * 64,
        data=(of, nc, nc.model_copy(update={"set": "c"})),
        derived_from=(manifest.Derived(kind="init", name="x.h5", licence="unknown", use="unknown"),),
        tools={},
    )
    assert terms.binding(source) == ["b, c (research)", "x.h5 (unknown: not known to allow it)"]
    assert terms.use_of_source(source) == "non-commercial"
    assert terms.sentence(source).startswith("NON-COMMERCIAL USE ONLY; Apache-2.0; research")
    # a licence that begins with it needs no stamp, and files of before keep their bytes
    source_b = source.model_copy(update={"data": (nc.model_copy(update={"licence": "non-commercial research: b"}),)})
    assert terms.sentence(source_b).startswith("non-commercial research: b; unknown")
    free = source.model_copy(update={"data": (of,), "derived_from": ()})
    assert terms.binding(free) == [] and terms.sentence(free) == "Apache-2.0"
    before = source.model_copy(update={"data": (nc.model_copy(update={"use": None}),), "derived_from": ()})
    assert terms.use_of_source(before) == "non-commercial"


def test_packed_sets_keep_their_weights(tmp_path: Path, here: None) -> None:
    folders(tmp_path)
    sets = [{"name": "a", "root": "one", "weight": 0.5}, {"name": "b", "root": "two", "weight": 2.5}]
    mixed = config(tmp_path, *sets, train={"blank_share": 0, "workers": 1}, seed=0)
    pack.pack(mixed, str(tmp_path / "packed"), 100)
    root = {"root": str(tmp_path / "packed"), "format": "shards"}
    shards = parse_config({"data": root, "train": {"blank_share": 0}, "seed": 0}, "test")
    assert drawn_in(shards, 4) == drawn_in(mixed, 4)
    plain = config(tmp_path, train={"blank_share": 0, "workers": 1}, seed=0)
    assert drawn_in(shards, 4) != drawn_in(plain, 4)
    # a state of other weights is another training's
    makers = [maker_of(open_dataset(mix.data, 0), mix) for mix in (shards, plain)]
    assert makers[0].keys == makers[1].keys
    model = SimpleNamespace(name="m")
    assert len({fingerprint(model, shards, Plan(1, 0.1), maker) for maker in makers}) == 2
    with pytest.raises(InputError, match=r"set c: .*packed was packed of several sets that have weights"):
        open_dataset(config(tmp_path, {"name": "c", "root": "packed", "format": "shards"}).data, 0)


def test_a_set_may_lie_in_an_object_store(tmp_path: Path, here: None) -> None:
    pytest.importorskip("fsspec")
    folders(tmp_path)
    store = f"memory://mixed-{tmp_path.parent.name}/one"
    pack.pack(config(tmp_path, {"name": "a", "root": "one"}, train={"workers": 1}), store, 100)
    sets = [{"name": "a", "root": store, "format": "shards"}, {"name": "b", "root": "two"}]
    data = open_dataset(config(tmp_path, *sets).data, 0)
    assert data.load(data.keys("train")[0]).mask is not None
    # and all of them, by a prefix
    beside = {"name": "c", "root": "one", "format": "shards"}
    assert open_dataset(config(Path(store.removesuffix("/one")), beside).data, 0).keys("train")
