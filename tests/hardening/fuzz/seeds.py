"""Small good files of every kind, from which the fuzzers begin, and words that their formats know."""

import io
import json
import struct
import tempfile
import zlib
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from portraitseg.config import Config
from tests.data.bad_cases import huge_png, write_h5

#: Spliced into inputs: keywords, limits of numbers, openings that nest.
WORDS = (
    b"[[[[[[[[",
    b'{"a":' * 8,
    b"\\ud800",
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"\0",
    b"../",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"0x" + b"f" * 40,
    b"9" * 5000,
    b"1979-05-27T07:32:00Z",
    b"true",
    b"null",
    b'"',
    b"'''",
    b"a.a.a.a.",
    b"Lambda",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
)


def seeds(name: str) -> list[bytes]:
    """The corpus of a target."""
    return _MAKERS[name]()


def _manifest() -> list[bytes]:
    from tests.test_manifest import EXAMPLE

    artifact = {"schema_version": 1, "source": EXAMPLE["source"], "stages": {"train": {"best_val_iou": 0.9, "x": [1]}}}
    return [json.dumps(value).encode() for value in (EXAMPLE, artifact)]


def _config() -> list[bytes]:
    root = Path(__file__).parents[3]
    written = [path.read_bytes() for path in sorted((root / "train/configs").glob("*.toml"))]
    return [*written, Config().model_dump_json().encode(), b'[data]\nroot = "x"\nformat = "folder"\n']


def _override() -> list[bytes]:
    return [b"seed=3\x1ftrain.epochs=7", b'data.root="\\ud83d\\ude00"\x1fdata.format=folder', b"augment.gamma.p=0.5"]


def _splits() -> list[bytes]:
    value = {"splits": {"train": ["a/1", "a/2"], "val": ["3"]}, "sha256_16": {"val": "4e07408562bedb8b"}}
    return [json.dumps(value).encode(), b'{"splits": {"test": ["\\u00e9"]}}']


def _mat() -> list[bytes]:
    from scipy.io import savemat

    made = []
    for value in (
        {"mask": np.eye(4, dtype=np.uint8)},
        {"list": np.array([[1.0, 2.0]])},
        {"mask": np.array([[1, "a"]], object), "b": {"c": 1}},
    ):
        for is_compressed in (False, True):
            buffer = io.BytesIO()
            savemat(buffer, value, do_compression=is_compressed)
            made.append(buffer.getvalue())
    bomb = zlib.compress(struct.pack("<II", 14, 10**8) + bytes(10**6), 9)
    return [*made, made[0][:128] + struct.pack("<II", 15, len(bomb)) + bomb]


def _h5() -> list[bytes]:
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for facts in ({}, {"layer": "Lambda"}, {"size": (None, None, 3)}):
            path = Path(folder) / "x.h5"
            write_h5(path, **facts)  # type: ignore[arg-type]
            made.append(path.read_bytes())
            if not facts:
                _add_weights(path)
                made.append(path.read_bytes())
    return made


def _add_weights(path: Path) -> None:
    """As Keras stores them, and as other writers do: compressed in blocks, texts of any length, named types."""
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    with h5py.File(path, "a") as file:
        layer = file["model_weights"].create_group("conv/conv")
        layer.create_dataset("kernel:0", data=values)
        layer.create_dataset("blocks:0", data=values, chunks=(1, 4, 5), compression="gzip", shuffle=True)
        layer.attrs["weight_names"] = np.array([b"conv/kernel:0", b"conv/blocks:0"])
        layer.create_dataset("texts", data=["a", "bc"], dtype=h5py.string_dtype())
        file["kind"] = np.dtype([("a", "<f4"), ("b", "S3")])


def _h5_config() -> list[bytes]:
    layers = [{"class_name": "InputLayer", "config": {"batch_input_shape": [None, 64, 64, 3]}}]
    good = {"class_name": "Functional", "config": {"name": "fast_scnn", "layers": layers}}
    nested = {"class_name": "Sequential", "config": {"name": "x", "layers": [good, {"class_name": "Lambda"}]}}
    return [json.dumps(value).encode() for value in (good, nested, {"config": {"layers": layers, "name": 1e400}})]


def _image() -> list[bytes]:
    random = np.random.default_rng(0)
    photo = Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "phone"
    made = [huge_png(64), huge_png(12_000)]
    for format, image, options in (
        ("PNG", photo, {"exif": exif}),
        ("PNG", photo.convert("P"), {"transparency": b"\0\1"}),
        ("PNG", photo.convert("LA"), {}),
        ("PNG", Image.fromarray(random.integers(0, 65536, (5, 5), dtype=np.uint16)), {}),
        ("PNG", photo, {"save_all": True, "append_images": [photo.rotate(9)]}),
        ("JPEG", photo, {"exif": exif}),
        ("JPEG", photo.convert("CMYK"), {"progressive": True}),
        ("MPO", photo, {"save_all": True, "append_images": [photo.rotate(9)]}),
        ("WEBP", photo, {"exif": exif}),
        ("WEBP", photo, {"lossless": True, "save_all": True, "append_images": [photo.rotate(9)]}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, format, **options)  # type: ignore[arg-type]
        made.append(buffer.getvalue())
    return made


def _tflite() -> list[bytes]:
    from portraitseg.tflite import metadata
    from tests.checks.gpu import zoo
    from tests.runners import hostile
    from tests.runners.tiny import write_tflite

    card = metadata.Card("tiny", "1", "Apache-2.0", "fp32", "rgb", "IoU 0.9")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.tflite"
        float_file = write_tflite(path).read_bytes()
        byte_file = write_tflite(path, dtype="uint8", scale=1 / 255).read_bytes()
        loop = hostile.write_endless(path).read_bytes()
    foreign = (zoo.depthwise(dilation=2), zoo.int8_network(), zoo.custom_op("MyBlur"), zoo.fully_connected())
    return [float_file, byte_file, loop, metadata.attach(float_file, card), *foreign]


def _peer() -> list[bytes]:
    return [
        b'scale = 0.0078\noffset = -1\nchannel_order = "BGR"\noutput = "mask"\noutput_channel = 1\n',
        b'scale = [1.0, 2, 3e-3]\noffset = [0, 1, 2]\nactivation = "softmax"\ninvert = true\n',
    ]


def _state() -> list[bytes]:
    from train import state

    arrays = {"weights": [np.eye(3, dtype=np.float32), np.zeros(2)], "ema": [np.ones((1, 2, 1), np.float16)]}
    with tempfile.TemporaryDirectory() as folder:
        progress = state.Progress("f", 3, 0.5, 1, [{"loss": 1.0, "epoch": 1}])
        state.save(Path(folder), progress, arrays)
        content = (Path(folder) / state.STATE_NAME).read_bytes()
    packed = io.BytesIO()
    np.savez_compressed(packed, progress=np.array("{}"), a=np.arange(5))
    return [content, packed.getvalue()]


_MAKERS = {
    "manifest": _manifest,
    "config": _config,
    "override": _override,
    "splits": _splits,
    "mat": _mat,
    "h5": _h5,
    "h5_config": _h5_config,
    "image": _image,
    "tflite": _tflite,
    "peer": _peer,
    "state": _state,
}
