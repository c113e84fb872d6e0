"""Cut-outs: what they are in the mask, where they lie, and that all stays as it was without them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from portraitseg.config import parse_config
from portraitseg.errors import InputError
from portraitseg.synthetic.hands import draw_cutout
from train import cutouts
from train.copy_paste import match_light
from train.cutouts import Cutouts

SIDE = 96


def photo() -> tuple[np.ndarray, np.ndarray]:
    """A grey picture, its middle a person."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:, 24:72] = 255
    return np.full((SIDE, SIDE, 3), 90, np.uint8), mask


@pytest.fixture
def red(tmp_path: Path) -> Path:
    """A folder of one cut-out, a red disc with a wide empty rim."""
    pixels = np.zeros((80, 60, 4), np.uint8)
    cv2.circle(pixels, (40, 50), 8, (255, 0, 0, 255), -1)
    (tmp_path / "cutouts").mkdir()
    Image.fromarray(pixels).save(tmp_path / "cutouts/disc.png")
    return tmp_path / "cutouts"


def config_of(**values: object):
    held = values.pop("held", "person")
    return parse_config({"data": {"held": held}, "train": {"cutout_share": 1.0, **values}}, "test")


@pytest.mark.parametrize("held", ["person", "background"])
def test_on_the_person_it_is_what_the_setting_says(red: Path, held: str) -> None:
    paste = cutouts.of(config_of(cutouts=str(red), held=held))
    assert paste is not None
    on_person = on_background = 0
    image, mask = photo()
    for seed in range(40):
        pasted, target, _ = paste(image, mask, None, np.random.default_rng(seed))
        disc = (pasted[..., 0] > 200) & (pasted[..., 1] < 30)
        assert disc.any()
        values = set(np.unique(target[disc] > 127))
        assert len(values) == 1
        if (mask[disc] > 127).mean() > 0.9:
            on_person += 1
            assert values == {held == "person"}
        elif not (mask[disc] > 127).any():
            on_background += 1
            # one that lies at the outline is as the person it was put on
            assert values == {False} or held == "person"
        # elsewhere nothing changes
        far = cv2.dilate(disc.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
        np.testing.assert_array_equal(pasted[far], image[far])
        np.testing.assert_array_equal(target[far], mask[far])
    assert on_person > 10 and on_background > 2
    np.testing.assert_array_equal(image, 90)


def test_what_a_cutout_covers_is_known(red: Path) -> None:
    paste = Cutouts((red / "disc.png",), 1.0, "person")
    image, mask = photo()
    pasted, _, ignore = paste(image, mask, np.full_like(mask, 255), np.random.default_rng(0))
    assert ignore is not None
    disc = (pasted[..., 0] > 250) & (pasted[..., 1] < 5)
    assert not ignore[disc].any() and (ignore == 255).mean() > 0.5


def test_background_only_photos_stay_background_only() -> None:
    paste = Cutouts((), 1.0, "person")
    image, mask = photo()
    pasted, target, _ = paste(image, np.zeros_like(mask), None, np.random.default_rng(1))
    assert not target.any() and (pasted != image).any()


def test_the_share_decides_and_the_seed_repeats(red: Path) -> None:
    image, mask = photo()
    changed = [
        bool(
            (
                Cutouts((red / "disc.png",), 0.3, "person")(image, mask, None, np.random.default_rng(seed))[0] != image
            ).any()
        )
        for seed in range(100)
    ]
    assert 15 < sum(changed) < 45
    one, other = (Cutouts((), 1.0, "person", 0.5)(image, mask, None, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])


def test_drawn_cutouts_are_hands_and_things_with_nothing_around_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        pixels = draw_cutout(rng, 64)
        assert pixels.shape == (64, 64, 4)
        assert 0.03 < (pixels[..., 3] > 127).mean() < 0.7
        # the arm comes from below; nothing touches the top
        assert not pixels[0, :, 3].any()


@pytest.mark.parametrize("content", [None, "empty", "opaque", "text", "clear"])
def test_bad_cutouts_are_told(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "cutouts"
    if content is not None:
        folder.mkdir()
    if content == "opaque":
        Image.new("RGB", (8, 8)).save(folder / "a.png")
    if content == "text":
        (folder / "a.png").write_text("no picture")
    if content == "clear":
        Image.new("RGBA", (8, 8)).save(folder / "a.png")

    def use() -> None:
        paste = cutouts.of(config_of(cutouts=str(folder)))
        assert paste is not None
        paste(*photo(), None, np.random.default_rng(0))

    with pytest.raises(InputError, match=r"train\.cutouts"):
        use()


def test_light_and_colour_move_towards_the_photo() -> None:
    rng = np.random.default_rng(0)
    front, back = rng.integers(150, 250, (SIDE, SIDE, 3), np.uint8), rng.integers(0, 80, (SIDE, SIDE, 3), np.uint8)
    back[..., 2] //= 4
    mask = photo()[1]
    assert match_light(front, mask, back, 0.0) is front and match_light(front, np.zeros_like(mask), back, 1.0) is front
    means = [match_light(front, mask, back, share)[mask > 127].mean(axis=0) for share in (0.0, 0.5, 1.0)]
    assert (means[0] > means[1] + 20).all() and (means[1] > means[2] + 20).all()
    np.testing.assert_allclose(means[2], back.mean(axis=(0, 1)), atol=8)
