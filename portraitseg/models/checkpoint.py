"""Keras h5 files without `load_model`: the config is read as text, the network rebuilt, the weights loaded.

tf_keras runs a Lambda that it finds in an h5, whatever `safe_mode` says; here nothing in the file is ever executed.
"""

import hashlib
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitseg import files, models
from portraitseg.errors import InputError
from portraitseg.models import _h5_child

#: Layers that carry code.
EXECUTABLE_LAYERS = frozenset({"Lambda", "TFOpLambda", "SlicingOpLambda"})


#: Sides of an input that may be built; others would only fill the memory.
_SIDES = range(1, 4097)

#: A Keras configuration is at most a few hundred kilobytes.
MAX_CONFIG_BYTES = 20_000_000

#: For reading all of an h5 in a child process: 0.4 s here, most of it Python's start.
READ_LIMIT_S = 60

#: Values of the smallest array that is compressed: below it the filter costs more bytes than it saves.
_SMALLEST_PACKED = 256

#: Attribute of an h5 that says what binds its weights.
_NOTE = "portraitseg_terms"

#: SHA-256 of an h5 that this process wrote, or had read to its end by a child → the text of its configuration.
_SOUND: dict[str, bytes] = {}

_REMEDY = "give an h5 that training wrote, such as best.h5"

#: h5py answers a damaged file with whatever the C library runs into.
DAMAGED = (
    OSError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    OverflowError,
    RuntimeError,
    SystemError,
    StopIteration,
    RecursionError,
)


@dataclass(frozen=True)
class Header:
    """What an h5 says of its network.

    Attributes:
        name: the network's name in the registry, such as `fast_scnn`.
        size: (height, width) of the input.
        is_quantized: True for the h5 of quantization-aware training.
    """

    name: str
    size: tuple[int, int]
    is_quantized: bool


def save(model: Any, path: Path) -> None:
    """Writes config and weights, without the optimizer, as a Keras h5, packed, atomically.

    Made in memory first: on a disk that is full the HDF5 library (1.14) says so in no way that can be told from a bug,
    and crashes when the process ends.

    Raises:
        InputError: as `files.replacing`.
    """
    import h5py

    content = io.BytesIO()
    with (
        warnings.catch_warnings(),
        h5py.File("as Keras writes it", "w", driver="core", backing_store=False) as loose,
        _open_packed(content) as packed,
    ):
        # Keras calls the format legacy; it is the one that people of this field have
        warnings.simplefilter("ignore", UserWarning)
        model.save(loose, save_format="h5", include_optimizer=False)
        _pack(loose, packed)
        config = loose.attrs["model_config"]
    files.write_bytes(path, content.getvalue())
    _SOUND[hashlib.sha256(content.getvalue()).hexdigest()] = config.encode() if isinstance(config, str) else config


def annotate(path: Path, note: str) -> None:
    """Writes into an h5 of ours what binds its weights (`portraitseg.terms.note`); one that says so is left as it is.

    Raises:
        InputError: as `files.replacing`.
    """
    import h5py

    if read_note(path) == note:
        return
    content = io.BytesIO(path.read_bytes())
    with h5py.File(content, "r+") as file:
        file.attrs[_NOTE] = note
    files.write_bytes(path, content.getvalue())


def read_note(path: Path) -> str:
    """What an h5 says of what binds its weights; empty where it says nothing. `read_header` is to come first."""
    import h5py

    with h5py.File(path, "r") as file:
        note = file.attrs.get(_NOTE, "")
    return note if isinstance(note, str) else ""


def _open_packed(content: io.BytesIO) -> Any:
    """An empty h5 of the format of HDF5 1.10 (2016): in older ones the index of a compressed array takes 2 KB."""
    import h5py

    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, content)
    return h5py.File(h5py.h5f.create(b"packed", h5py.h5f.ACC_TRUNC, creation, access))


def _pack(source: Any, packed: Any) -> None:
    """Copies an h5 group into an empty one, without loss, compressed as every build of HDF5 can read it.

    Without the time at which a group was made, as Keras's own: equal weights are equal bytes.
    """
    import h5py

    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    packed.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _pack(item, h5py.Group(h5py.h5g.create(packed.id, name.encode(), gcpl=creation)))
            continue
        packing = {} if item.size < _SMALLEST_PACKED else {"compression": "gzip", "shuffle": True}
        packed.create_dataset(name, data=item[()], **packing).attrs.update(item.attrs)


def read_header(path: Path) -> Header:
    """Reads which network an h5 holds; executes nothing.

    Raises:
        InputError: missing, not an h5 of a Keras model, or one with a layer that carries code.
    """
    if not path.is_file():
        raise InputError(f"checkpoint {path}: no such file: {_REMEDY}")
    return parse_header(read_config(path), path)


def read_config(path: Path, is_optional: bool = False) -> bytes:
    """The text of the network's configuration, once a child process has read all of the file and come back.

    Args:
        path: of an h5 of anyone.
        is_optional: an h5 of weights alone has none: empty then.

    Raises:
        InputError: not an h5, or one that cannot be read to its end.
    """
    digest = files.sha256(path)
    if digest in _SOUND:
        return _SOUND[digest]
    command = [sys.executable, "-I", "-B", str(Path(__file__).with_name("_h5_child.py")), str(path.absolute())]
    if is_optional:
        command.append(_h5_child.OPTIONAL)
    try:
        done = subprocess.run(command, capture_output=True, timeout=READ_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        reason = f"reading it took over {READ_LIMIT_S} s"
    else:
        if done.returncode == 0:
            if done.stdout:
                _SOUND[digest] = done.stdout
            return done.stdout
        lines = done.stderr.decode("utf-8", "replace").strip().split("\n")
        reason = lines[-1] if done.returncode > 0 else f"reading it ended with signal {-done.returncode}"
    raise InputError(f"checkpoint {path}: not a Keras h5, or a damaged one ({reason[:200]}): {_REMEDY}")


def parse_header(text: bytes, path: Path) -> Header:
    """What the configuration inside an h5 says; `path` names the file in errors.

    Raises:
        InputError: not the configuration of a model of one image input, or one with a layer that carries code.
    """
    try:
        if len(text) > MAX_CONFIG_BYTES:
            raise InputError(f"checkpoint {path}: a configuration of {len(text)} bytes: this is no network: {_REMEDY}")
        config = json.loads(text)
        classes = set(_class_names(config))
        inputs = next(
            layer["config"]["batch_input_shape"]
            for layer in config["config"]["layers"]
            if layer["class_name"] == "InputLayer"
        )
        height, width, channels = inputs[1:]
        if not {height, width} <= set(_SIDES) or channels != 3:
            raise ValueError(f"an input of {height}x{width}x{channels}, not of RGB")
        name = str(config["config"]["name"])
    except InputError:
        raise
    except DAMAGED as error:
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"checkpoint {path}: no model of one image input ({reason}): {_REMEDY}") from error
    if executable := classes & EXECUTABLE_LAYERS:
        raise InputError(
            f"checkpoint {path}: refused: it holds {', '.join(sorted(executable))}, "
            f"a layer that runs foreign code: {_REMEDY}"
        )
    return Header(
        name=name.removeprefix("quant_"),
        size=(int(height), int(width)),
        is_quantized=_holds_quantized(classes),
    )


def _class_names(config: Any) -> Iterator[str]:
    """All values of `class_name`, at any depth."""
    stack = [config]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("class_name"), str):
                yield node["class_name"]
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _holds_quantized(classes: Iterable[str]) -> bool:
    """Whether layers of these class names are of quantization-aware training."""
    return any(kind.startswith("Quantize") for kind in classes)


def load_weights(model: Any, path: Path) -> None:
    """Loads the weights of an h5 into a network of the same architecture.

    Raises:
        InputError: another network, the h5 of quantization-aware training for a float one, or a damaged file.
    """
    header = read_header(path)
    if header.is_quantized and not _holds_quantized(type(layer).__name__ for layer in model.layers):
        raise InputError(
            f"checkpoint {path}: comes from quantization-aware training: give the float h5 (no -qat, not in qat/)"
        )
    network = model.name.removeprefix("quant_")
    if header.name != network:
        raise InputError(f"checkpoint {path}: holds '{header.name}', not '{network}': name an h5 of the same network")
    try:
        model.load_weights(str(path))
    except DAMAGED as error:
        reason = str(error).split("\n")[0][:200]
        raise InputError(
            f"checkpoint {path}: its weights do not fit '{network}': {reason}: name an undamaged h5 of the same network"
        ) from error


def load(path: Path) -> Any:
    """Rebuilds the float network of an h5 and loads its weights.

    Raises:
        InputError: as `read_header` and `load_weights`, or an unknown network.
    """
    header = read_header(path)
    try:
        model = models.build(header.name, header.size)
    except InputError as error:
        # which speaks of a name, and the user gave a file
        raise InputError(f"checkpoint {path}: {error}") from error
    load_weights(model, path)
    return model
