"""Every bad input that INTERFACE.md lists, as files that a command is run on.

`tests/test_bad_input.py` runs the cases; `python -m tests.golden.write` writes docs/bad-input.md from the same list.
"""

import contextlib
import io
import json
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import h5py
import numpy as np
from PIL import Image

from portraitseg import cli

SIZE = (24, 16)
"Height and width of the photos."

_KNOWN = re.compile(r"(\((?:known|there are): [^,)]+)[^)]*\)")

CHECK = ("check-data", "--data", "DATA")
FIT = ("fit", "--set", "data.synthetic_photos=8", "--set", "model.size=[32, 32]", "--set", "train.workers=1")


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        what: the input, in words.
        arguments: of `python -m train`, run in a folder that holds DATA, four good portraits.
        prepare: spoils something in that folder.
        code: exit code to expect.
        says: parts that the one line must have: the thing and the remedy.
    """

    what: str
    code: int
    says: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda folder: None
    arguments: tuple[str, ...] = CHECK


@dataclass(frozen=True)
class Outcome:
    code: int
    lines: tuple[str, ...]

    def starting(self, word: str) -> list[str]:
        return [line for line in self.lines if line.startswith(word)]


def run(arguments: tuple[str, ...], folder: Path) -> Outcome:
    """`python -m train …` in a folder, in this process: importing TensorFlow fifty times would take minutes."""
    from train.__main__ import app

    printed = io.StringIO()
    code = 0
    with contextlib.chdir(folder), contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        try:
            cli.run(partial(app, list(arguments)))
        except SystemExit as error:
            code = int(error.code or 0)
    return Outcome(code, tuple(printed.getvalue().splitlines()))


def run_case(case: Case, folder: Path) -> Outcome:
    write_photos(folder / "DATA")
    case.prepare(folder)
    return run(case.arguments, folder)


# ---- good photos


def portrait(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and a mask of its middle: (h, w, 3) and (h, w) uint8."""
    image = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    mask[6:18, 4:12] = 255
    return image, mask


def write_photos(folder: Path, names: tuple[str, ...] = ("a", "b", "c", "d")) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for seed, name in enumerate(names):
        image, mask = portrait(seed)
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    splits = {"train": list(names[:-1]), "val": [names[-1]]}
    (folder / "splits.json").write_text(json.dumps({"splits": {name: keys for name, keys in splits.items() if keys}}))


# ---- what spoils them; each takes the folder that holds DATA


def write_splits(folder: Path, splits: object, **more: object) -> None:
    (folder / "DATA/splits.json").write_text(json.dumps({"splits": splits, **more}))


def _splits(splits: object, **more: object) -> Callable[[Path], object]:
    return lambda folder: write_splits(folder, splits, **more)


def _save(name: str, image: Image.Image, folder: Path, **options: object) -> None:
    """In place of photo or mask `a`; `name` decides the format."""
    for old in (folder / "DATA" / Path(name).parent).glob("a.*"):
        old.unlink()
    image.save(folder / "DATA" / name, **options)


def _photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(portrait(seed)[0])


def _mask_of(values: np.ndarray, folder: Path) -> None:
    _save("masks/a.png", Image.fromarray(values), folder)


def _write(name: str, content: bytes, folder: Path) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def _remove(name: str, folder: Path) -> None:
    (folder / name).unlink()


def _cut(name: str, image: Image.Image, folder: Path) -> None:
    """A file that ends in the middle, as a broken download does."""
    _save(name, image, folder)
    content = (folder / "DATA" / name).read_bytes()
    _write(f"DATA/{name}", content[: len(content) * 2 // 3], folder)


def _encode16(shape: tuple[int, ...]) -> bytes:
    values = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    return cv2.imencode(".png", values)[1].tobytes()


def huge_png(side: int) -> bytes:
    """A white PNG of side × side pixels in a few kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    row = b"\0" + b"\xff" * (-(-side // 8))
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _gif() -> bytes:
    buffer = io.BytesIO()
    _photo().save(buffer, "GIF", save_all=True, append_images=[_photo(1)])
    return buffer.getvalue()


def _rotated(folder: Path) -> None:
    """Stored lying down; its mask stands, as the photo is displayed."""
    exif = Image.Exif()
    exif[0x0112] = 6
    _save("images/a.jpg", _photo().transpose(Image.Transpose.ROTATE_90), folder, exif=exif)


def _one_pixel(folder: Path) -> None:
    _save("images/a.png", Image.new("RGB", (1, 1)), folder)
    _mask_of(np.full((1, 1), 255, np.uint8), folder)


def _named(name: str | bytes, folder: Path) -> None:
    """Photo and mask `a` under another name."""
    raw = os.fsencode(name)
    for part in ("images", "masks"):
        old = folder / "DATA" / part / "a.png"
        os.rename(os.fsencode(old), os.fsencode(old.parent) + b"/" + raw + b".png")  # noqa: PTH104 (bytes)
    (folder / "DATA/splits.json").unlink()
    if isinstance(name, str):
        write_splits(folder, {"train": [name, "b", "c"], "val": ["d"]})


def _twin(folder: Path) -> None:
    """Photo `d` of the split `val` has the pixels of `a`."""
    _write("DATA/images/d.png", (folder / "DATA/images/a.png").read_bytes(), folder)


def _alone(folder: Path) -> None:
    for part in ("images", "masks"):
        for name in "bcd":
            (folder / f"DATA/{part}/{name}.png").unlink()
    (folder / "DATA/splits.json").unlink()


def write_h5(path: Path, name: str = "fast_scnn", layer: str = "Conv2D", size: object = (32, 32, 3)) -> None:
    """An h5 with a Keras configuration and no weights."""
    layers = [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, *size]}},  # type: ignore[misc]
        {"class_name": layer, "config": {}},
    ]
    config = {"class_name": "Functional", "config": {"name": name, "layers": layers}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights").attrs["layer_names"] = np.array([b"conv"])


def _moved(folder: Path) -> None:
    """The configuration that a run saved, whose photos are no longer where they were."""
    from portraitseg.config import Config, DataConfig

    saved = Config(data=DataConfig(format="folder", root=Path("moved/away")))
    _write("runs/old/config.json", saved.model_dump_json().encode(), folder)


def _config(text: str) -> Callable[[Path], object]:
    return partial(_write, "my.toml", text.encode())


def _init(folder: Path, **facts: object) -> None:
    write_h5(folder / "other.h5", **facts)  # type: ignore[arg-type]


def _set(*pairs: str) -> tuple[str, ...]:
    return (*CHECK, *(part for pair in pairs for part in ("--set", pair)))


_NAMES = "error: RUN="
_WITH_CONFIG = ("check-data", "--config", "my.toml")
_WITH_INIT = (*FIT, "--init", "other.h5")


def _cases() -> Iterator[Case]:
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
    yield Case("missing mask", 2, ("images/a.png", "masks/a.png"), partial(_remove, "DATA/masks/a.png"))
    yield Case(
        "mask of another size", 2, ("masks/a.png", "same size"), partial(_mask_of, np.full((9, 9), 255, np.uint8))
    )
    yield Case("mask without a photo", 2, ("masks/a.png", "add it"), partial(_remove, "DATA/images/a.png"))
    yield Case("two photos of one name", 2, ("a.png", "rename"), lambda f: _photo().save(f / "DATA/images/a.jpg"))
    yield Case(
        "photo that vanished from a split",
        2,
        ("splits.json", "'z'", "add it"),
        _splits({"train": ["a", "z"], "val": ["d"]}),
    )
    yield Case("truncated JPEG", 2, ("images/a.jpg", "truncated", "replace"), partial(_cut, "images/a.jpg", _photo()))
    yield Case("truncated PNG", 2, ("images/a.png", "truncated", "replace"), partial(_cut, "images/a.png", _photo()))
    yield Case("truncated WebP", 2, ("images/a.webp", "damaged", "replace"), partial(_cut, "images/a.webp", _photo()))
    yield Case("truncated mask", 2, ("masks/a.png", "truncated", "replace"), partial(_cut, "masks/a.png", _photo()))
    yield Case("zero-byte photo", 2, ("images/a.png", "empty", "replace"), partial(_write, "DATA/images/a.png", b""))
    yield Case("zero-byte mask", 2, ("masks/a.png", "empty", "replace"), partial(_write, "DATA/masks/a.png", b""))
    yield Case(
        "text file called .png", 2, ("images/a.png", "not a jpg"), partial(_write, "DATA/images/a.png", b"hello")
    )
    yield Case("GIF called .png", 2, ("images/a.png", "not a jpg"), partial(_write, "DATA/images/a.png", _gif()))
    yield Case(
        "PostScript called .png",
        2,
        ("images/a.png", "not a jpg"),
        partial(_write, "DATA/images/a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    )
    yield Case("folder called .png", 2, ("images/z.png", "take it out"), _folder_as_photo)
    yield Case("pipe called .png", 2, ("images/z.png", "take it out"), _pipe_as_photo)
    yield Case(
        "12,000×12,000 photo",
        2,
        ("images/a.png", "12000x12000", "reduce"),
        lambda f: _write("DATA/images/a.png", huge_png(12_000), f),
    )
    yield Case(
        "20,000×20,000 photo",
        2,
        ("images/a.png", "megapixels", "reduce"),
        lambda f: _write("DATA/images/a.png", huge_png(20_000), f),
    )
    # converted
    yield Case(
        "grayscale photo",
        0,
        ("photo: grayscale: 1 of 4", "(first: a)"),
        partial(_save, "images/a.png", _photo().convert("L")),
    )
    yield Case(
        "grayscale photo with alpha",
        0,
        ("photo: grayscale with alpha: 1 of 4",),
        partial(_save, "images/a.png", _photo().convert("LA")),
    )
    yield Case(
        "RGBA photo", 0, ("photo: alpha dropped: 1 of 4",), partial(_save, "images/a.png", _photo().convert("RGBA"))
    )
    yield Case(
        "16-bit grayscale photo",
        0,
        ("photo: 16-bit grayscale: 1 of 4",),
        partial(_write, "DATA/images/a.png", _encode16(SIZE)),
    )
    yield Case(
        "16-bit RGB photo", 0, ("photo: 16 bit: 1 of 4",), partial(_write, "DATA/images/a.png", _encode16((*SIZE, 3)))
    )
    yield Case("CMYK JPEG", 0, ("photo: CMYK: 1 of 4",), partial(_save, "images/a.jpg", _photo().convert("CMYK")))
    yield Case("palette PNG", 0, ("photo: palette: 1 of 4",), partial(_save, "images/a.png", _photo().convert("P")))
    yield Case(
        "animated WebP",
        0,
        ("photo: animated, first frame taken: 1 of 4",),
        lambda f: _save("images/a.webp", _photo(), f, save_all=True, append_images=[_photo(1)]),
    )
    yield Case(
        "animated PNG",
        0,
        ("photo: animated, first frame taken: 1 of 4",),
        lambda f: _save("images/a.png", _photo(), f, save_all=True, append_images=[_photo(1)]),
    )
    yield Case("EXIF-rotated JPEG", 0, ("photo: EXIF rotation: 1 of 4",), _rotated)
    yield Case("1×1 photo", 0, ("mask: all white: 1 of 4",), _one_pixel)
    yield Case("mask of 0 and 1", 0, ("mask: values 0/1: 1 of 4",), partial(_mask_of, half))
    yield Case("16-bit mask", 0, ("mask: 16 bit: 1 of 4",), partial(_mask_of, half.astype(np.uint16) * 65535))
    yield Case(
        "RGB mask",
        0,
        ("mask: RGB, its brightness taken: 1 of 4",),
        partial(_mask_of, np.repeat(half[..., None] * np.uint8(255), 3, axis=2)),
    )
    yield Case("all-black mask", 0, ("mask: all black: 1 of 4",), partial(_mask_of, np.zeros(SIZE, np.uint8)))
    yield Case("all-white mask", 0, ("mask: all white: 1 of 4",), partial(_mask_of, np.full(SIZE, 255, np.uint8)))
    yield Case("the same pixels in two splits", 0, ("the same photo in train and val: 1 of 4", "(first: d)"), _twin)
    # names of photos
    yield Case("photo name with spaces", 0, (), partial(_named, "my best photo"))
    yield Case("photo name in unicode", 0, (), partial(_named, "Zoë 自拍 😀"))
    yield Case("photo name with brackets, as markup has", 0, (), partial(_named, "[red]a:cat:"))
    yield Case("photo name with a line break", 2, ("two\\nlines.png", "rename"), partial(_named, "two\nlines"))
    yield Case("photo name that recolours the terminal", 2, ("\\x1b[31ma.png", "rename"), partial(_named, "\x1b[31ma"))
    yield Case("photo name that is not UTF-8", 2, ("caf\\udce9.png", "UTF-8", "rename"), partial(_named, b"caf\xe9"))
    # splits
    yield Case("one photo, so that `val` is empty", 2, ("DATA", "'val' is empty", "add photos"), _alone)
    yield Case("empty split", 2, ("splits.json", "'val' is empty", "add photos"), _splits({"train": ["a"], "val": []}))
    yield Case(
        "the same photo in two splits",
        2,
        ("splits.json", "'a'", "one of them"),
        _splits({"train": ["a", "b"], "val": ["a"]}),
    )
    yield Case(
        "the same photo twice in a split",
        2,
        ("splits.json", "'a' twice", "take one out"),
        _splits({"train": ["a", "a"], "val": ["d"]}),
    )
    yield Case(
        "splits.json with a hash that differs",
        2,
        ("splits.json", "7ae1bd", "restore"),
        _splits({"train": ["a"], "val": ["d"]}, sha256_16={"train": "7ae1bd0000000000"}),
    )
    yield Case(
        "splits.json with a hash of no split",
        2,
        ("splits.json", "'tset'", "correct"),
        _splits({"train": ["a"]}, sha256_16={"tset": "0" * 16}),
    )
    yield Case("splits.json with a number for a list", 2, ("splits.json", "'train'", "write"), _splits({"train": 7}))
    yield Case("splits.json with numbers for keys", 2, ("splits.json", "'train'", "write"), _splits({"train": [1, 2]}))
    yield Case(
        "splits.json with an unknown key",
        2,
        ("splits.json", "'version'", "write"),
        _splits({"train": ["a"]}, version=1),
    )
    yield Case(
        "splits.json with a split twice",
        2,
        ("splits.json", "'train'", "twice"),
        partial(_write, "DATA/splits.json", b'{"splits": {"train": ["a"], "train": ["b"]}}'),
    )
    yield Case(
        "splits.json with `../` in a key",
        2,
        ("splits.json", "'../a'", "use <set>/<stem>"),
        _splits({"train": ["../a"]}),
    )
    yield Case(
        "splits.json that is not JSON",
        2,
        ("splits.json", "not JSON", "write"),
        partial(_write, "DATA/splits.json", b"train: a"),
    )
    yield Case(
        "splits.json with 100,000 brackets",
        2,
        ("splits.json", "nested too deep", "write"),
        partial(_write, "DATA/splits.json", b"[" * 100_000),
    )
    # configuration
    yield Case("no such config", 2, ("my.toml", "no such file", "train/configs"), arguments=_WITH_CONFIG)
    yield Case("config that is not TOML", 2, ("my.toml", "not TOML", "correct"), _config("seed 7"), _WITH_CONFIG)
    yield Case(
        "config that is not text",
        2,
        ("my.toml", "not TOML", "correct"),
        partial(_write, "my.toml", b"\xff\xd8\xff"),
        _WITH_CONFIG,
    )
    yield Case(
        "config with 10,000 brackets",
        2,
        ("my.toml", "nested too deep", "write"),
        _config("seed = " + "[" * 10_000),
        _WITH_CONFIG,
    )
    yield Case(
        "unknown key", 2, ("my.toml", "train.epoch:", "known: epochs"), _config("[train]\nepoch = 3"), _WITH_CONFIG
    )
    yield Case(
        "unknown section", 2, ("my.toml", "training:", "known: seed"), _config("[training]\nepochs = 3"), _WITH_CONFIG
    )
    yield Case(
        "wrong type", 2, ("my.toml", "train.epochs:", "integer", "'3'"), _config('[train]\nepochs = "3"'), _WITH_CONFIG
    )
    yield Case("true for a number", 2, ("train.epochs:", "integer", "True"), arguments=_set("train.epochs=true"))
    yield Case(
        "impossible value",
        2,
        ("train.learning_rate:", "greater than 0", "-1"),
        arguments=_set("train.learning_rate=-1"),
    )
    yield Case(
        "value that is not finite", 2, ("train.learning_rate:", "finite"), arguments=_set("train.learning_rate=nan")
    )
    yield Case("seed beyond 32 bits", 2, ("seed:", "less than 4294967296"), arguments=_set("seed=99999999999"))
    yield Case("date for a number", 2, ("date", "no key takes"), arguments=_set("seed=2026-01-01"))
    yield Case(
        "unknown format",
        2,
        ("data.format:", "'folder', 'eg1800' or 'synthetic'"),
        arguments=(*CHECK, "--format", "coco"),
    )
    yield Case("--set without a value", 2, ("--set seed", "section.key=value"), arguments=_set("seed"))
    yield Case(
        "data that moved since training",
        2,
        ("DATA moved/away", "DATA="),
        _moved,
        ("check-data", "--config", "runs/old/config.json"),
    )
    yield Case("unknown augmentation", 2, ("augment.twirl", "known:"), arguments=(*FIT, "--set", "augment.twirl.p=1"))
    yield Case("unknown loss", 2, ("loss.hinge", "known:"), arguments=(*FIT, "--set", "loss.hinge=1"))
    yield Case("unknown network", 2, ("model.name", "there are:"), arguments=(*FIT, "--set", "model.name=resnet"))
    # checkpoints
    yield Case("INIT that is not there", 2, ("other.h5", "no such file", "best.h5"), arguments=_WITH_INIT)
    yield Case(
        "INIT that is no h5",
        2,
        ("other.h5", "not a Keras h5", "best.h5"),
        partial(_write, "other.h5", b"hello"),
        _WITH_INIT,
    )
    yield Case(
        "INIT of another network", 2, ("other.h5", "'unet'", "same network"), partial(_init, name="unet"), _WITH_INIT
    )
    yield Case(
        "INIT with a Lambda", 2, ("other.h5", "Lambda", "foreign code"), partial(_init, layer="Lambda"), _WITH_INIT
    )
    yield Case("INIT whose weights are missing", 2, ("other.h5", "do not fit", "same network"), _init, _WITH_INIT)
    # names of runs
    for what, name, shown in (
        ("spaces", "my run", "'my run'"),
        ("a line break", "my\nrun", "'my\\nrun'"),
        ("unicode", "läuft", "'läuft'"),
        ("`../`", "../up", "'../up'"),
        ("nothing in it", "", "''"),
    ):
        yield Case(f"RUN with {what}", 2, (_NAMES + shown, "use letters"), arguments=("fit", "--run", name))


def _folder_as_photo(folder: Path) -> None:
    (folder / "DATA/images/z.png").mkdir()
    write_splits(folder, {"train": ["a", "z"], "val": ["d"]})
    _write("DATA/masks/z.png", (folder / "DATA/masks/a.png").read_bytes(), folder)


def _pipe_as_photo(folder: Path) -> None:
    os.mkfifo(folder / "DATA/images/z.png")
    write_splits(folder, {"train": ["a", "z"], "val": ["d"]})
    _write("DATA/masks/z.png", (folder / "DATA/masks/a.png").read_bytes(), folder)


CASES = tuple(_cases())


def table(outcomes: list[tuple[Case, Outcome]]) -> str:
    """docs/bad-input.md."""
    lines = [
        "# Bad input: what each command answers",
        "",
        "Each mistake gets one line that names the thing and the remedy: `error:` with exit code 2, or `warning:` with",
        "a count where the input could be used after all (exit code 0). Written by `make golden` from the cases that",
        "`tests/test_bad_input.py` runs; `DATA` is a folder of four photos, one of which was spoilt.",
        "",
        "| input | exit | line |",
        "|---|---|---|",
    ]
    for case, outcome in outcomes:
        said = outcome.starting("error:") + outcome.starting("warning:")
        # shortened, so that a new network or loss does not rewrite the table
        brief = [_KNOWN.sub(r"\1, …)", text) for text in said]
        line = "; ".join(f"`` {text} ``" for text in brief).replace("|", "\\|") or "none: it is good"
        lines.append(f"| {case.what} | {outcome.code} | {line} |")
    return "\n".join(lines) + "\n"
