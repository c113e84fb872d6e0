"""The pixels that come out of odd files; which of them are refused is in tests/test_bad_input.py."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from portraitseg.data.masks import read_mask
from portraitseg.data.reading import read_image
from portraitseg.errors import InputError
from tests.data.bad_cases import SIZE, portrait

RGB = portrait(0)[0]


def png(tmp_path: Path, values: np.ndarray) -> Path:
    """Written by OpenCV, which keeps 16 bits of colour; values in RGB(A) order."""
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(values.shape[2] if values.ndim == 3 else 1)
    path = tmp_path / "x.png"
    path.write_bytes(cv2.imencode(".png", values if order is None else cv2.cvtColor(values, order))[1].tobytes())
    return path


def with_alpha(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.random.default_rng(1).integers(0, 256, (*SIZE, 1), dtype=values.dtype)], axis=2)


def test_rgb_is_taken_as_it_is(tmp_path: Path) -> None:
    image, notes = read_image(png(tmp_path, RGB))
    np.testing.assert_array_equal(image, RGB)
    assert notes == ()


def test_transparent_pixels_keep_their_colour(tmp_path: Path) -> None:
    image, notes = read_image(png(tmp_path, with_alpha(RGB)))
    np.testing.assert_array_equal(image, RGB)
    assert notes == ("photo: alpha dropped",)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_keep_their_high_byte(tmp_path: Path, channels: int) -> None:
    """RGBA once came out black: Pillow has already cut it to 8 bits, and it was cut again."""
    wide = RGB.astype(np.uint16) * 256 + 77
    values = {1: wide[..., 0], 3: wide, 4: with_alpha(wide)}[channels]
    image, notes = read_image(png(tmp_path, values))
    np.testing.assert_array_equal(image, np.repeat(RGB[..., :1], 3, axis=2) if channels == 1 else RGB)
    assert any("16" in note for note in notes)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Red is top left as displayed, whatever the orientation; by the EXIF standard's table of rows and columns."""
    shown = np.zeros((32, 48, 3), np.uint8)
    shown[:16, :24, 0] = 255
    shown[16:, 24:, 2] = 255
    store = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    options = {} if suffix == "png" else {"quality": 95}
    Image.fromarray(np.ascontiguousarray(store(shown))).save(path, exif=exif, **options)
    image, notes = read_image(path)
    assert image.shape == shown.shape
    assert np.abs(image.astype(int) - shown).mean() < 6  # JPEG and WebP blur the edges
    assert notes == (() if orientation == 1 else ("photo: EXIF rotation",))


@pytest.mark.parametrize("value", [0, 9, 60000])
def test_orientations_that_do_not_exist_change_nothing(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=exif)
    image, notes = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(image, RGB)
    assert notes == ()


def test_damaged_exif_does_not_cost_the_photo(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "A phone"
    Image.fromarray(RGB).save(buffer, "JPEG", exif=exif)
    content = bytearray(buffer.getvalue())
    start = content.index(b"Exif\0\0") + 6
    end = start - 8 + int.from_bytes(content[start - 8 : start - 6])
    generator = np.random.default_rng(0)
    path = tmp_path / "x.jpg"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for _ in range(200):
            damaged = content.copy()
            for position in generator.integers(start, end, 4):
                damaged[position] = generator.integers(256)
            path.write_bytes(damaged)
            image, _ = read_image(path)
            assert image.shape in ((*SIZE, 3), (*SIZE[::-1], 3))


def test_iphone_photos_hold_several_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(RGB).save(path, "MPO", save_all=True, append_images=[Image.fromarray(RGB[:8, :8])])
    image, notes = read_image(path)
    assert image.shape == RGB.shape and notes == ("photo: several pictures, first taken",)


@pytest.mark.parametrize("format", ["BMP", "TIFF", "GIF", "PPM", "ICO", "TGA", "PDF", "EPS", "JPEG2000"])
def test_other_formats_are_not_even_tried(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all EPS: Pillow would start Ghostscript on it."""
    import subprocess

    monkeypatch.setattr(subprocess, "check_call", None)
    monkeypatch.setattr(subprocess, "Popen", None)
    path = tmp_path / "x.png"
    Image.fromarray(RGB).save(path, format)
    with pytest.raises(InputError, match="not a jpg, png or webp image: save it as one"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_every_truncation_is_noticed(tmp_path: Path, suffix: str) -> None:
    """Not half a picture in grey, as OpenCV hands it out; the last bytes may be missing where all pixels are there."""
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(RGB).save(path)
    content = path.read_bytes()
    whole, _ = read_image(path)
    for length in range(1, len(content) - 24, 7):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"damaged|not a jpg"):
            read_image(path)
    for length in range(len(content) - 24, len(content)):
        path.write_bytes(content[:length])
        try:
            image, _ = read_image(path)
        except InputError:
            continue
        np.testing.assert_array_equal(image, whole)


# ---- masks


def test_masks_keep_their_alpha(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mask, _, notes = read_mask(png(tmp_path, values))
    np.testing.assert_array_equal(mask, values)
    assert notes == ()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_masks_of_0_and_1(tmp_path: Path, kind: type) -> None:
    """In 16 bits too, where the high byte alone would be black."""
    values = (portrait(0)[1] // 255).astype(kind)
    mask, _, notes = read_mask(png(tmp_path, values))
    np.testing.assert_array_equal(mask, portrait(0)[1])
    assert "mask: values 0/1" in notes


def test_16_bit_masks(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, SIZE, dtype=np.uint16)
    mask, _, notes = read_mask(png(tmp_path, values))
    np.testing.assert_array_equal(mask, values >> 8)
    assert notes == ("mask: 16 bit",)
    # 8-bit labels in a 16-bit file: nothing above 255 is there
    labels = portrait(0)[1]
    np.testing.assert_array_equal(read_mask(png(tmp_path, labels.astype(np.uint16)))[0], labels)


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_masks(tmp_path: Path, channels: int) -> None:
    wide = np.repeat(portrait(0)[1][..., None].astype(np.uint16) * 257, channels, axis=2)
    np.testing.assert_array_equal(read_mask(png(tmp_path, wide))[0], portrait(0)[1])


def test_one_bit_masks(tmp_path: Path) -> None:
    Image.fromarray(portrait(0)[1]).convert("1").save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "x.png")[0], portrait(0)[1])


def test_palette_masks_are_their_indices(tmp_path: Path) -> None:
    image = Image.fromarray(portrait(0)[1] // 255).convert("P")
    image.putpalette([7, 7, 7, 9, 9, 9])
    image.save(tmp_path / "x.png")
    mask, _, notes = read_mask(tmp_path / "x.png")
    np.testing.assert_array_equal(mask, portrait(0)[1])
    assert "mask: palette, its indices taken" in notes


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file: add it"):
        read_image(tmp_path / "x.jpg")
