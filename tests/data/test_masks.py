"""What the values of masks mean: decided for the set, or refused with the setting that resolves it."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from portraitseg.config import DataConfig, parse_config
from portraitseg.data import open_dataset
from portraitseg.data.checking import check_splits
from portraitseg.data.folder import FolderDataset
from portraitseg.data.masks import form_of_histogram, read_mask
from portraitseg.errors import InputError
from portraitseg.mask_setting import Meaning, parse_setting
from tests.data import drawn
from tests.data.drawn import binary, colour, cutout, ids, palette, parts, smooth

Draw = Callable[[int], Image.Image]

PHOTOS = 8
BLACK_WHITE, WHITE_BLACK = (0, 0, 0, 255, 255, 255), (255, 255, 255, 0, 0, 0)
VOC = (0, 0, 0, 128, 0, 0, 0, 128, 0)


def opened(root: Path, **more: Any) -> FolderDataset:
    data = open_dataset(DataConfig(format="folder", root=root, **more), 0)
    assert isinstance(data, FolderDataset)
    return data


def check_right(root: Path, count: int, has_outline: bool = False, **more: Any) -> FolderDataset:
    """Every mask is the person that was drawn, and what was left open is ignored, no more and no less."""
    data = opened(root, **more)
    for index in range(count):
        sample = data.load(f"p{index:03d}")
        person = drawn.person(index)
        assert sample.mask is not None
        if has_outline:
            band = drawn.outline(person)
            assert sample.ignore is not None
            np.testing.assert_array_equal(sample.ignore, band)
            person = person & ~band
        else:
            assert sample.ignore is None
        np.testing.assert_array_equal(sample.mask > 127, person)
    assert data.has_ignored == has_outline
    return data


READ: dict[str, tuple[Draw, bool, str]] = {
    # what was drawn: (how, whether the outline is left open, what is said of it)
    "0/255": (binary, False, "values 0, 255: above 127 is person"),
    "0/1": (ids(0, 1), False, "values 0, 1: 1 is person"),
    "0/2 (label02)": (ids(0, 2), False, "values 0, 2: 2 is person"),
    "0/15, VOC's person": (ids(0, 15), False, "values 0, 15: 15 is person"),
    "0/1/255 (label01_ignore255)": (ids(0, 1, 255), True, "values 0, 1, 255: 1 is person, 255 is ignored in loss"),
    "0/15/255": (ids(0, 15, 255), True, "15 is person, 255 is ignored"),
    "0/200": (ids(0, 200), False, "values 0, 200: above 127"),
    "palette of white and black (pil_quantized_masks)": (palette(WHITE_BLACK, lambda p: ~p), False, "values 0, 255:"),
    "palette of black and white": (palette(BLACK_WHITE, lambda p: p), False, "values 0, 255: above 127"),
    "palette of VOC": (palette(VOC, lambda p: p), False, "values 0, 1: 1 is person"),
    "palette of red and black": (palette((255, 0, 0, 0, 0, 0), lambda p: ~p), False, "#ff0000 is person"),
    "palette of gray": (palette((0, 0, 0, 1, 1, 1), lambda p: p), False, "values 0, 1: 1 is person"),
    "red on black": (colour((128, 0, 0)), False, "colours #000000, #800000: #800000 is person"),
    "VOC's colours": (colour((192, 128, 128), (224, 224, 192)), True, "#c08080 is person, #e0e0c0 is ignored"),
    "cut-out (rgba_cutout)": (cutout, False, "the fourth channel, above half, is person"),
    "one bit": (lambda i: binary(i).convert("1"), False, "values 0, 255"),
    "16 bit": (lambda i: Image.fromarray(drawn.person(i).astype(np.uint16) * 65535), False, "values 0, 255"),
    "16 bit, class 2": (lambda i: Image.fromarray(drawn.person(i).astype(np.uint16) * 2), False, "2 is person"),
    "RGB of one value": (lambda i: binary(i).convert("RGB"), False, "values 0, 255"),
    "opaque RGBA": (lambda i: binary(i).convert("RGBA"), False, "values 0, 255"),
}


@pytest.mark.parametrize("what", READ)
def test_masks_whose_meaning_is_clear(what: str, tmp_path: Path) -> None:
    draw, has_outline, says = READ[what]
    root = drawn.write(tmp_path, [draw] * PHOTOS)
    data = check_right(root, PHOTOS, has_outline)
    (remark,) = data.remarks
    assert says in remark


def test_soft_masks_keep_their_grades(tmp_path: Path) -> None:
    data = opened(drawn.write(tmp_path, [smooth] * PHOTOS))
    np.testing.assert_array_equal(data.load("p000").mask, np.asarray(smooth(0)))


def test_masks_as_jpeg(tmp_path: Path) -> None:
    """`mask_jpg`: read, and counted, for its outline is not exact; of class ids it cannot be."""
    data = opened(drawn.write(tmp_path / "good", [binary] * PHOTOS, ".jpg"))
    sample = data.load("p001")
    assert "mask: JPEG, whose outline is not exact" in sample.notes
    assert np.mean((sample.mask > 127) != drawn.person(1)) < 0.01
    with pytest.raises(InputError, match="no value above"):
        opened(drawn.write(tmp_path / "bad", [ids(0, 40)] * PHOTOS, ".jpg"))


REFUSED: dict[str, tuple[Sequence[Draw], str]] = {
    "1/2/255 (pixelannotation_watershed)": (
        [ids(1, 2, 255)] * PHOTOS,
        r"classes, of values 1, 2, 255; none is 0, .*data\.mask=person:2,ignore:255 or --set data\.mask=person:1,ign",
    ),
    "1/2": ([ids(1, 2)] * PHOTOS, r"none is 0, and 1 is what most.*person:2 or --set data\.mask=person:1"),
    "parts of a person": ([parts] * PHOTOS, r"classes, of values 0, 1, 2, 3, 4: .*person:<ids>"),
    "trimap": ([ids(0, 255, 128)] * PHOTOS, r"is 128 unknown, or .*person:255,ignore:128"),
    "inverted": ([lambda i: drawn.grey(255 * ~drawn.person(i))] * PHOTOS, r"look inverted: .*person:0"),
    "nobody": ([ids(0, 0)] * PHOTOS, r"8 of 8 show nobody .*data\.blank_sets"),
    "nearly nobody": ([binary, *[ids(0, 0)] * 39], r"39 of 40 show nobody"),
    "several colours": ([colour((255, 0, 0)), *[colour((0, 255, 0))] * 7], r"person:#00ff00"),
    "photos": ([lambda i: Image.fromarray(drawn.photo(i))] * PHOTOS, r"pictures of .* colours and more, no masks"),
    "dim": ([lambda i: drawn.grey(np.asarray(smooth(i)) // 4)] * PHOTOS, r"values 0, 1, 2, 3 … 63|no value above 63"),
    "classes up to 150": (
        [lambda i: drawn.grey(np.where(drawn.person(i), 12, np.arange(72) // 12 * 25 + 25))] * PHOTOS,
        r"classes, of values 12, 25, .*150",
    ),
    "cut-outs that disagree": (
        [lambda i: Image.fromarray(np.dstack([255 * drawn.person(i).astype(np.uint8)] * 3 +
                                             [255 * ~drawn.person(i).astype(bool)]).astype(np.uint8))] * PHOTOS,
        r"brightness says one thing .*data\.mask=alpha or --set data\.mask=binary",
    ),
    # two of another kind among good ones
    "two of 0/2": ([binary] * 20 + [ids(0, 2)] * 2, r"kinds: 20 of values 0, 255 \(first: p000.png\); 2 of v"),
    "two with 255 left open": ([binary] * 20 + [ids(0, 1, 255)] * 2, r"2 kinds: .*2 of values 0, 1, 255 \(first: p020"),
    "two of 0/255 among 0/1/255": ([ids(0, 1, 255)] * 20 + [binary] * 2, r"kinds: .*2 of values 0, 255 \(first: p020"),
    "two of 0/255 among 0/2": ([ids(0, 2)] * 20 + [binary] * 2, r"of 2 kinds"),
    "two of class 3 among class 2": ([ids(0, 2)] * 20 + [ids(0, 3)] * 2, r"classes, of values 0, 2, 3"),
    "two cut-outs": ([binary] * 20 + [cutout] * 2, r"2 cut the person out .*p020.png\), 20 do not"),
    "two in red": ([binary] * 20 + [colour((128, 0, 0))] * 2, r"2 have colours \(first: p020.png\), 20 are grey"),
    "two of 0/1/255 among soft ones": ([smooth] * 20 + [ids(0, 1, 255)] * 2, r"of 2 kinds: .*values 0, 1, 255"),
    "two of 0/2 among soft ones": ([smooth] * 20 + [ids(0, 2)] * 2, r"of 2 kinds: .*values 0, 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_masks_whose_meaning_is_not_clear(what: str, tmp_path: Path) -> None:
    draws, says = REFUSED[what]
    with pytest.raises(InputError, match=says):
        opened(drawn.write(tmp_path, draws))


@pytest.mark.parametrize(
    ("draw", "setting", "has_outline"),
    [
        (ids(1, 2, 255), "person:2,ignore:255", True),
        (parts, "person:1-4", False),
        (parts, "person:1+2+3+4", False),
        (ids(0, 255, 128), "person:255,ignore:128", True),
        (lambda i: drawn.grey(255 * ~drawn.person(i)), "person:0", False),
        (colour((0, 128, 0), (9, 9, 9)), "person:#008000,ignore:#090909", True),
        (palette((0, 0, 0, 128, 0, 0), lambda p: p), "person:#800000", False),
        (cutout, "alpha", False),
        (ids(0, 15, 255), "person:15,ignore:255", True),
    ],
)
def test_settings(draw: Draw, setting: str, has_outline: bool, tmp_path: Path) -> None:
    root = drawn.write(tmp_path, [draw] * PHOTOS)
    assert check_right(root, PHOTOS, has_outline, mask=setting).remarks[0].endswith("(data.mask)")


@pytest.mark.parametrize("draw", [binary, ids(0, 1)])
def test_black_and_white_are_no_alpha_whatever_the_setting_says(draw: Draw, tmp_path: Path) -> None:
    root = drawn.write(tmp_path, [draw] * PHOTOS)
    # 100 % person all over, and training began
    with pytest.raises(InputError, match=r"no fourth channel.* --set data\.mask=binary"):
        opened(root, mask="alpha").load("p002")


def test_a_setting_for_each_set(tmp_path: Path) -> None:
    drawn.write(tmp_path / "parsed", [parts] * PHOTOS)
    drawn.write(tmp_path / "plain", [binary] * PHOTOS)
    with pytest.raises(InputError, match=r"masks of .*parsed: classes"):
        opened(tmp_path)
    data = opened(tmp_path, mask={"parsed": "person:1-4"})
    for name in ("parsed", "plain"):
        np.testing.assert_array_equal(data.load(f"{name}/p002").mask > 127, drawn.person(2))
    with pytest.raises(InputError, match=r"names a set 'voc' that has no masks here \(there are: parsed, plain\)"):
        opened(tmp_path, mask={"voc": "binary"})


def test_a_setting_that_finds_nobody_is_refused(tmp_path: Path) -> None:
    root = drawn.write(tmp_path, [ids(0, 2)] * PHOTOS)
    for setting in ("binary", "person:1", "person:15,ignore:255"):
        with pytest.raises(InputError, match=f"8 of 8 show nobody as --set data.mask={setting} says"):
            opened(root, mask=setting)


@pytest.mark.parametrize(
    "setting",
    ["", "person", "person:", "person:256", "person:1,ignore:1", "ignore:255", "person:5-2", "class:1", "person:#fff",
     "person:1+#ffffff", "0/255"],
)  # fmt: skip
def test_settings_that_are_none(setting: str) -> None:
    with pytest.raises(InputError, match=r"data\.mask: "):
        parse_config({"data": {"mask": setting}}, "my.toml")


@given(person=st.sets(st.integers(0, 255), min_size=1, max_size=9), ignore=st.sets(st.integers(0, 255), max_size=9))
def test_a_meaning_is_what_its_setting_says(person: set[int], ignore: set[int]) -> None:
    meaning = Meaning("ids", frozenset(person), frozenset(ignore - person))
    again = parse_setting(meaning.setting)
    assert again is not None and (again.kind, again.person, again.ignore) == ("ids", meaning.person, meaning.ignore)


# ---- beyond what is looked at first


def test_masks_that_were_not_looked_at_are_compared_when_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred thousand only some are looked at before training; its check reads all of them."""
    monkeypatch.setattr("portraitseg.data.survey.MOST_LOOKED_AT", 4)
    monkeypatch.setattr("portraitseg.data.survey.LEAST_LOOKED_AT", 4)
    for name, good, bad, says in (
        ("a", binary, ids(0, 2), "has the values 0, 2, unlike its set's others"),
        ("b", binary, ids(0, 1, 255), "has the values 0, 1, 255"),
        ("c", ids(0, 2), binary, "has 255, its set's others only 0, 2"),
        ("d", ids(0, 1, 255), ids(0, 255), "nobody, and .* of it 255"),
        ("e", binary, cutout, "has a fourth channel"),
        ("f", binary, colour((128, 0, 0)), "has colours"),
        ("g", cutout, binary, "has no fourth channel"),
        ("h", smooth, ids(0, 1, 255), "has the values 0, 1, 255"),
    ):
        draws = [good] * 10
        draws[3] = bad
        data = opened(drawn.write(tmp_path / name, draws))
        with pytest.raises(InputError, match=rf"mask .*p003\.png: {says}"):
            for _ in check_splits(data, data.splits):
                pass


def test_workers_read_as_the_parent_decided(tmp_path: Path) -> None:
    data = opened(drawn.write(tmp_path, [ids(0, 2)] * PHOTOS))
    again = pickle.loads(pickle.dumps(data.excerpt(["p000"])))
    np.testing.assert_array_equal(again.load("p000").mask > 127, drawn.person(0))


def test_0_1_masks_among_others_are_converted_with_a_note(tmp_path: Path) -> None:
    data = check_right(drawn.write(tmp_path, [binary] * 6 + [ids(0, 1)] * 2), 8)
    assert "mask: values 0/1" in data.load("p006").notes


def test_few_background_only_photos_are_no_fault(tmp_path: Path) -> None:
    check_right(drawn.write(tmp_path, [ids(0, 15, 255)] * 6), 6, has_outline=True)
    data = opened(drawn.write(tmp_path / "more", [binary] * 6 + [ids(0, 0)] * 6))
    assert "mask: all black" in data.load("p007").notes


def test_a_unsure_mask_among_soft_ones(tmp_path: Path) -> None:
    """A teacher that is unsure gives values below half alone: read as nobody, with a note, not refused."""
    unsure = lambda i: drawn.grey(np.asarray(smooth(i)) // 17 * 17 // 3)  # noqa: E731
    data = opened(drawn.write(tmp_path, [smooth] * 20 + [unsure]))
    assert "mask: all black" in data.load("p020").notes


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_every_histogram_has_a_form(values: list[int]) -> None:
    assert form_of_histogram(np.bincount(values, minlength=256))


def test_reading_by_a_meaning(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    ids(0, 7, 255)(0).save(path)
    mask, ignore, _ = read_mask(path, Meaning("ids", frozenset({7}), frozenset({255})))
    assert ignore is not None and not (ignore & (mask > 0)).any()
