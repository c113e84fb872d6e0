"""Photos and masks, and their names."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.bad_cases import spoil
from tests.data.bad_cases.case import Case
from tests.data.bad_cases.spoil import SIZE


def cases() -> Iterator[Case]:
    half = np.zeros(SIZE, np.uint8)
    half[8:] = 1
    # files
    yield Case("no such folder", 2, ("DATA nowhere", "DATA="), arguments=("check-data", "--data", "nowhere"))
    yield Case(
        "a folder without photos",
        2,
        ("DATA masks", "images/"),
        lambda f: (f / "masks").mkdir(),
        ("check-data", "--data", "masks"),
    )
    yield Case("missing mask", 2, ("images/a.png", "masks/a.png"), partial(spoil.remove, "DATA/masks/a.png"))
    yield Case(
        "mask of another size", 2, ("masks/a.png", "same size"), partial(spoil.mask_of, np.full((9, 9), 255, np.uint8))
    )
    yield Case("mask without a photo", 2, ("masks/a.png", "add it"), partial(spoil.remove, "DATA/images/a.png"))
    yield Case(
        "a set of masks without photos",
        2,
        ("people/b", "masks/ without images/", "add the photos"),
        lambda f: ((f / "people/a/images").mkdir(parents=True), (f / "people/b/masks").mkdir(parents=True)),
        ("check-data", "--data", "people"),
    )
    yield Case(
        "a set beside images/",
        0,
        ("sets beside DATA/images are left out", "folder of their own: 1 (first: more)"),
        lambda f: (f / "DATA/more/images").mkdir(parents=True),
    )
    yield Case(
        "a folder beside images/ without permission to read it",
        0,
        (),
        lambda f: (f / "DATA/lost+found").mkdir(),
        barred="DATA/lost+found",
    )
    yield Case("two photos of one name", 2, ("a.png", "rename"), lambda f: spoil.photo().save(f / "DATA/images/a.jpg"))
    yield Case(
        "photo that vanished from a split",
        2,
        ("splits.json", "'z'", "add it"),
        spoil.splits({"train": ["a", "z"], "val": ["d"]}),
    )
    yield Case(
        "truncated JPEG", 2, ("images/a.jpg", "truncated", "replace"), partial(spoil.cut, "images/a.jpg", spoil.photo())
    )
    yield Case(
        "truncated PNG", 2, ("images/a.png", "truncated", "replace"), partial(spoil.cut, "images/a.png", spoil.photo())
    )
    yield Case(
        "truncated WebP", 2, ("images/a.webp", "damaged", "replace"), partial(spoil.cut, "images/a.webp", spoil.photo())
    )
    yield Case(
        "truncated mask", 2, ("masks/a.png", "truncated", "replace"), partial(spoil.cut, "masks/a.png", spoil.photo())
    )
    yield Case(
        "zero-byte photo", 2, ("images/a.png", "empty", "replace"), partial(spoil.write, "DATA/images/a.png", b"")
    )
    yield Case("zero-byte mask", 2, ("masks/a.png", "empty", "replace"), partial(spoil.write, "DATA/masks/a.png", b""))
    yield Case(
        "text file called .png", 2, ("images/a.png", "not a jpg"), partial(spoil.write, "DATA/images/a.png", b"hello")
    )
    yield Case(
        "GIF called .png", 2, ("images/a.png", "not a jpg"), partial(spoil.write, "DATA/images/a.png", spoil.gif())
    )
    yield Case(
        "PostScript called .png",
        2,
        ("images/a.png", "not a jpg"),
        partial(spoil.write, "DATA/images/a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    )
    yield Case("folder called .png", 2, ("images/z.png", "take it out"), spoil.folder_as_photo)
    yield Case("pipe called .png", 2, ("images/z.png", "take it out"), spoil.pipe_as_photo)
    yield Case(
        "12,000×12,000 photo",
        2,
        ("images/a.png", "12000x12000", "reduce"),
        lambda f: spoil.write("DATA/images/a.png", spoil.huge_png(12_000), f),
    )
    yield Case(
        "20,000×20,000 photo",
        2,
        ("images/a.png", "megapixels", "reduce"),
        lambda f: spoil.write("DATA/images/a.png", spoil.huge_png(20_000), f),
    )
    for what, barred, says in (
        ("photo", "DATA/images/a.png", ("photo DATA/images/a.png: no permission to read it", "change its permissions")),
        ("mask", "DATA/masks/a.png", ("mask DATA/masks/a.png: no permission to read it", "change its permissions")),
        ("folder of photos", "DATA/images", ("DATA/images: no permission", "change the folder's permissions")),
    ):
        yield Case(f"{what} without permission to read it", 2, says, barred=barred)
    # converted
    yield Case(
        "grayscale photo",
        0,
        ("photo: grayscale: 1 of 4", "(first: a)"),
        partial(spoil.save, "images/a.png", spoil.photo().convert("L")),
    )
    yield Case(
        "grayscale photo with alpha",
        0,
        ("photo: grayscale with alpha: 1 of 4",),
        partial(spoil.save, "images/a.png", spoil.photo().convert("LA")),
    )
    yield Case(
        "RGBA photo",
        0,
        ("photo: alpha dropped: 1 of 4",),
        partial(spoil.save, "images/a.png", spoil.photo().convert("RGBA")),
    )
    yield Case(
        "16-bit grayscale photo",
        0,
        ("photo: 16-bit grayscale: 1 of 4",),
        partial(spoil.write, "DATA/images/a.png", spoil.encode16(SIZE)),
    )
    yield Case(
        "16-bit RGB photo",
        0,
        ("photo: 16 bit: 1 of 4",),
        partial(spoil.write, "DATA/images/a.png", spoil.encode16((*SIZE, 3))),
    )
    yield Case(
        "CMYK JPEG", 0, ("photo: CMYK: 1 of 4",), partial(spoil.save, "images/a.jpg", spoil.photo().convert("CMYK"))
    )
    yield Case(
        "palette PNG", 0, ("photo: palette: 1 of 4",), partial(spoil.save, "images/a.png", spoil.photo().convert("P"))
    )
    yield Case(
        "animated WebP",
        0,
        ("photo: animated, first frame taken: 1 of 4",),
        lambda f: spoil.save("images/a.webp", spoil.photo(), f, save_all=True, append_images=[spoil.photo(1)]),
    )
    yield Case(
        "animated PNG",
        0,
        ("photo: animated, first frame taken: 1 of 4",),
        lambda f: spoil.save("images/a.png", spoil.photo(), f, save_all=True, append_images=[spoil.photo(1)]),
    )
    yield Case("EXIF-rotated JPEG", 0, ("photo: EXIF rotation: 1 of 4",), spoil.rotated)
    yield Case("1×1 photo", 0, ("mask: all white: 1 of 4",), spoil.one_pixel)
    yield Case("mask of 0 and 1", 0, ("mask: values 0/1: 1 of 4",), partial(spoil.mask_of, half))
    for what, values, says in (
        ("classes 0 and 2 among 0 and 255", half * 2, ("2 kinds", "1 of values 0, 2 (first: a.png)", "data.mask=")),
        ("0, 1 and 255 among 0 and 255", _left_open(half), ("2 kinds", "1 of values 0, 1, 255 (first: a.png)")),
    ):
        yield Case(f"mask of {what}", 2, says, partial(spoil.mask_of, values.astype(np.uint8)))
    yield Case("empty masks", 2, ("4 of 4 show nobody", "data.blank_sets"), partial(_all_masks, half * 0))
    yield Case(
        "masks of classes",
        2,
        ("values 0, 3, 6, 9", "say which are person", "data.mask=person:<ids>"),
        partial(_all_masks, half * 3 * (1 + np.arange(SIZE[1], dtype=np.uint8) // 6)),
    )
    yield Case(
        "data.mask that is no form of one",
        2,
        ("data.mask", "'person' is none of auto, binary, alpha"),
        arguments=("check-data", "--data", "DATA", "--set", "data.mask=person"),
    )
    yield Case("16-bit mask", 0, ("mask: 16 bit: 1 of 4",), partial(spoil.mask_of, half.astype(np.uint16) * 65535))
    yield Case(
        "RGB mask",
        0,
        ("mask: RGB, its brightness taken: 1 of 4",),
        partial(spoil.mask_of, np.repeat(half[..., None] * np.uint8(255), 3, axis=2)),
    )
    yield Case("all-black mask", 0, ("mask: all black: 1 of 4",), partial(spoil.mask_of, np.zeros(SIZE, np.uint8)))
    yield Case("all-white mask", 0, ("mask: all white: 1 of 4",), partial(spoil.mask_of, np.full(SIZE, 255, np.uint8)))
    yield Case(
        "the same pixels in two splits", 0, ("the same photo in train and val: 1 of 4", "(first: d)"), spoil.twin
    )
    # names of photos
    yield Case("photo name with spaces", 0, (), partial(spoil.named, "my best photo"))
    yield Case("photo name in unicode", 0, (), partial(spoil.named, "Zoë 自拍 😀"))
    yield Case("photo name with brackets, as markup has", 0, (), partial(spoil.named, "[red]a:cat:"))
    yield Case("photo name with a line break", 2, ("two\\nlines.png", "rename"), partial(spoil.named, "two\nlines"))
    yield Case(
        "photo name that recolours the terminal", 2, ("\\x1b[31ma.png", "rename"), partial(spoil.named, "\x1b[31ma")
    )
    yield Case(
        "photo name that is not UTF-8", 2, ("caf\\udce9.png", "UTF-8", "rename"), partial(spoil.named, b"caf\xe9")
    )
    # EG1800 as it is distributed
    original = ("check-data", "--data", "DATA", "--format", "eg1800", "--set", "data.val_ratio=0.5")
    yield Case("EG1800 without its folders", 2, ("DATA", "images_data_crop"), arguments=original)
    for what, says, content in (
        ("a mask that is no .mat", "take the photo out", b"hello"),
        ("a mask of 100 MB in 100 kB", "00001_mask.mat", spoil.vast_mat),
    ):
        yield Case(
            f"EG1800 with {what}",
            2,
            ("00001_mask.mat", says),
            partial(_eg1800_with_mask, content),
            original,
        )


def _left_open(half: np.ndarray) -> np.ndarray:
    """Class 1 with a row of 255 above it."""
    values = half.copy()
    values[7] = 255
    return values


def _all_masks(values: np.ndarray, folder: Path) -> None:
    for path in (folder / "DATA/masks").iterdir():
        Image.fromarray(values).save(path)


def _eg1800_with_mask(content: bytes | Callable[[], bytes], folder: Path) -> None:
    spoil.write_eg1800(folder, content if isinstance(content, bytes) else content())
