"""Four good portraits, and what may be wrong with them."""

import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
from PIL import Image

SIZE = (24, 16)
"Height and width of the photos."


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


# ---- what spoils them; most take the folder that holds DATA last


def write_splits(folder: Path, splits: object, **more: object) -> None:
    (folder / "DATA/splits.json").write_text(json.dumps({"splits": splits, **more}))


def splits(splits: object, **more: object) -> Callable[[Path], object]:
    return lambda folder: write_splits(folder, splits, **more)


def save(name: str, image: Image.Image, folder: Path, **options: object) -> None:
    """In place of photo or mask `a`; `name` decides the format."""
    for old in (folder / "DATA" / Path(name).parent).glob("a.*"):
        old.unlink()
    image.save(folder / "DATA" / name, **options)


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(portrait(seed)[0])


def mask_of(values: np.ndarray, folder: Path) -> None:
    save("masks/a.png", Image.fromarray(values), folder)


def write(name: str, content: bytes, folder: Path) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def remove(name: str, folder: Path) -> None:
    (folder / name).unlink()


def cut(name: str, image: Image.Image, folder: Path) -> None:
    """A file that ends in the middle, as a broken download does."""
    save(name, image, folder)
    content = (folder / "DATA" / name).read_bytes()
    write(f"DATA/{name}", content[: len(content) * 2 // 3], folder)


def encode16(shape: tuple[int, ...]) -> bytes:
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


def gif() -> bytes:
    buffer = io.BytesIO()
    photo().save(buffer, "GIF", save_all=True, append_images=[photo(1)])
    return buffer.getvalue()


def rotated(folder: Path) -> None:
    """Stored lying down; its mask stands, as the photo is displayed."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save("images/a.jpg", photo().transpose(Image.Transpose.ROTATE_90), folder, exif=exif)


def one_pixel(folder: Path) -> None:
    save("images/a.png", Image.new("RGB", (1, 1)), folder)
    mask_of(np.full((1, 1), 255, np.uint8), folder)


def named(name: str | bytes, folder: Path) -> None:
    """Photo and mask `a` under another name."""
    raw = os.fsencode(name)
    for part in ("images", "masks"):
        old = folder / "DATA" / part / "a.png"
        os.rename(os.fsencode(old), os.fsencode(old.parent) + b"/" + raw + b".png")  # noqa: PTH104 (bytes)
    (folder / "DATA/splits.json").unlink()
    if isinstance(name, str):
        write_splits(folder, {"train": [name, "b", "c"], "val": ["d"]})


def twin(folder: Path) -> None:
    """Photo `d` of the split `val` has the pixels of `a`."""
    write("DATA/images/d.png", (folder / "DATA/images/a.png").read_bytes(), folder)


def alone(folder: Path) -> None:
    for part in ("images", "masks"):
        for name in "bcd":
            (folder / f"DATA/{part}/{name}.png").unlink()
    (folder / "DATA/splits.json").unlink()


def unlabelled(folder: Path, **more: list[str]) -> None:
    """A set with masks, one without, and a split for that one whose name declares it; `more` in place of splits."""
    (folder / "DATA").rename(folder / "people")
    write("DATA/street/images/s.png", (folder / "people/images/a.png").read_bytes(), folder)
    for part in ("images", "masks"):
        (folder / f"people/{part}/a.png").unlink()
    (folder / "people/splits.json").unlink()
    (folder / "people").rename(folder / "DATA/people")
    splits = {"train": ["people/b", "people/c"], "val": ["people/d"], "unlabelled": ["street/s"]}
    write_splits(folder, {**splits, **more})


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


def write_linked_h5(path: Path) -> None:
    """An h5 whose weights are somebody else's file."""
    write_h5(path)
    with h5py.File(path, "a") as file:
        file["model_weights/conv"] = h5py.ExternalLink("/etc/passwd", "/")


class RunsOnLoading:
    """A pickle of it makes a file `it-ran` when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("it-ran", "w")


def pickled() -> bytes:
    return pickle.dumps(RunsOnLoading())


def npz_of_pickles() -> bytes:
    """As numpy saves what it has no number type for."""
    buffer = io.BytesIO()
    np.savez(buffer, progress=np.array('{"fingerprint": "x"}'), **{"weights/0": np.array([RunsOnLoading()], object)})
    return buffer.getvalue()


def write_eg1800(folder: Path, mask: bytes | None = None) -> None:
    """Seven photos as EG1800 is distributed, into DATA; `mask`: what lies there as the mask of photo 1."""
    from scipy.io import savemat

    data = folder / "DATA"
    (data / "images_data_crop").mkdir()
    (data / "images_mask").mkdir()
    for number in range(1, 8):
        image, truth = portrait(number)
        Image.fromarray(image).save(data / f"images_data_crop/{number:05d}.jpg")
        savemat(data / f"images_mask/{number:05d}_mask.mat", {"mask": truth // 255})
    if mask is not None:
        (data / "images_mask/00001_mask.mat").write_bytes(mask)
    savemat(data / "trainlist.mat", {"trainlist": np.arange(1.0, 7.0)})
    savemat(data / "testlist.mat", {"testlist": np.array([[7.0]])})


def vast_mat() -> bytes:
    """A compressed .mat of 100 MB of zeros, in 100 kB."""
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, {"mask": np.zeros((10_000, 10_000), np.uint8)}, do_compression=True)
    return buffer.getvalue()


def folder_as_photo(folder: Path) -> None:
    (folder / "DATA/images/z.png").mkdir()
    write_splits(folder, {"train": ["a", "z"], "val": ["d"]})
    write("DATA/masks/z.png", (folder / "DATA/masks/a.png").read_bytes(), folder)


def pipe_as_photo(folder: Path) -> None:
    os.mkfifo(folder / "DATA/images/z.png")
    write_splits(folder, {"train": ["a", "z"], "val": ["d"]})
    write("DATA/masks/z.png", (folder / "DATA/masks/a.png").read_bytes(), folder)
