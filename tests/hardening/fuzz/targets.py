"""One function per reader of files from strangers: `target(data)` returns, or lets an InputError pass by.

Whatever else comes out, a crash, a hang or gigabytes, is a finding. A new reader gets a function here, a line in
`TARGETS` and seeds in `seeds.py`; both the quick test and `python -m tests.hardening.fuzz.run` pick it up.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg import config, manifest, mask_setting
from portraitseg.checks.gpu import rules
from portraitseg.data import eg1800, folder, masks, reading
from portraitseg.errors import InputError
from portraitseg.runners import peer, tensors, tflite
from portraitseg.tflite import graph as tflite_graph
from portraitseg.tflite import info
from train import state

#: In memory where there is a place for it: the readers that take a path are called millions of times.
_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / str(os.getpid()) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def read_manifest(data: bytes) -> None:
    for kind in (manifest.Manifest, manifest.Artifact):
        with contextlib.suppress(InputError):
            manifest.parse(kind, data, "manifest.json")
    with contextlib.suppress(InputError):
        # as text, which may hold what UTF-8 cannot
        manifest.parse(manifest.Manifest, data.decode("utf-8", "surrogateescape"), "m")


def read_config(data: bytes) -> None:
    for is_json in (False, True):
        with contextlib.suppress(InputError):
            config.parse_config(config.parse_text(data, "config.toml", is_json), "config.toml")


def read_override(data: bytes) -> None:
    with contextlib.suppress(InputError):
        config.load_config(None, data.decode("utf-8", "replace").split("\x1f"))


def read_splits(data: bytes) -> None:
    with contextlib.suppress(InputError):
        folder.parse_splits(folder.parse_splits_text(data, "splits.json"), "splits.json")


def read_mat(data: bytes) -> None:
    path = _file("x.mat", data)
    for reader in (eg1800.read_mat_mask, eg1800.read_mat_list):
        with contextlib.suppress(InputError):
            reader(path)


def read_h5(data: bytes) -> None:
    """Slow: each input has a process of its own, because the HDF5 library may never come back."""
    from portraitseg.models.checkpoint import read_header

    with contextlib.suppress(InputError):
        read_header(_file("x.h5", data))


def read_h5_config(data: bytes) -> None:
    """The JSON inside an h5 of good form."""
    from portraitseg.models.checkpoint import parse_header

    with contextlib.suppress(InputError):
        parse_header(data, Path("x.h5"))


#: One of each kind.
_MEANINGS = (
    masks.BINARY,
    *(
        mask_setting.parse_setting(text) or mask_setting.BINARY
        for text in ("alpha", "person:15,ignore:255", "person:#c08080")
    ),
)


def read_image(data: bytes) -> None:
    path = _file("x.png", data)
    with contextlib.suppress(InputError):
        reading.read_image(path)
    reading.orientation(path)
    for meaning in _MEANINGS:
        with contextlib.suppress(InputError):
            masks.read_mask(path, meaning)


def read_tflite(data: bytes) -> None:
    """All that we read of a .tflite ourselves: what `portraitseg info` shows, the GPU's rules, the runners' checks."""
    path = _file("x.tflite", data)
    with contextlib.suppress(InputError):
        info.describe(path)
    try:
        graph = tflite_graph.read_graph(path)
    except InputError:
        return
    for delegate in rules.DELEGATES:
        rules.judge(graph, delegate)
    # a runtime would tell the same of its tensors, if it took the file
    inputs, outputs = ([_details(tensor) for tensor in side] for side in (graph.inputs, graph.outputs))
    with contextlib.suppress(InputError):
        tensors.check_input(path, tensors.only_input(path, [tflite._tensor_info(path, one) for one in inputs]))
    with contextlib.suppress(InputError):
        tensors.choose_output(path, [tflite._tensor_info(path, one) for one in outputs])
    for spec in (peer.PeerSpec(), peer.PeerSpec(layout="NCHW")):
        with contextlib.suppress(InputError):
            peer._info(peer._only_photo(path, spec, inputs))
        with contextlib.suppress(InputError):
            peer._info(peer._choose_output(path, spec, (8, 10), outputs)[0])


def _details(tensor: tflite_graph.Tensor) -> dict[str, Any]:
    """As `Interpreter.get_input_details` tells them."""
    kind = tensor.dtype.lower()
    return {
        "name": tensor.name,
        "shape": np.array(tensor.shape, np.int32),
        "shape_signature": np.array(tensor.signature, np.int32),
        "dtype": getattr(np, kind) if kind in ("float32", "float16", "int8", "uint8", "int16", "int32") else np.bytes_,
        "quantization_parameters": {
            "scales": np.array(tensor.scales, np.float32),
            "zero_points": np.array(tensor.zero_points, np.int64).astype(np.int32),  # cut off, as there
        },
    }


def read_peer(data: bytes) -> None:
    with contextlib.suppress(InputError):
        peer.read_spec(_file("x.toml", data))


def read_state(data: bytes) -> None:
    with contextlib.suppress(InputError):
        state.load(_file(state.STATE_NAME, data).parent)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "manifest": read_manifest,
    "config": read_config,
    "override": read_override,
    "splits": read_splits,
    "mat": read_mat,
    "h5": read_h5,
    "h5_config": read_h5_config,
    "image": read_image,
    "tflite": read_tflite,
    "peer": read_peer,
    "state": read_state,
}

#: They start a process for each input: not for atheris, and only a few.
SLOW = ("h5",)
