"""Reads all of an h5 in a process of its own, where a hang or a crash of the HDF5 library does no harm.

Run as a script by `checkpoint.py`; on success the network's configuration goes to stdout. Random changes of an h5 make
the library (1.14) loop for ever while it reads an attribute, out of reach of any handler in the same process.
"""

import sys

import h5py

#: Of one array; the largest network here has 5 MB of weights altogether.
MAX_ARRAY_BYTES = 1_000_000_000
MAX_MEMORY_BYTES = 8_000_000_000

#: Second argument: the file may be one of weights alone.
OPTIONAL = "--config-is-optional"


def read_all(path: str, is_optional: bool = False) -> bytes:
    """Reads every attribute and array once, so that reading them again is known to end.

    Args:
        path: of the h5.
        is_optional: without a configuration the answer is empty; else that is an error.

    Raises:
        ValueError: a link, or an array that lies in another file.
    """
    with h5py.File(path, "r") as file:
        _look("/", file)
        file.visititems(_look)
        text = file.attrs.get("model_config", b"") if is_optional else file.attrs["model_config"]
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _look(name: str, item: h5py.Group | h5py.Dataset | h5py.Datatype) -> None:
    for key in item.attrs:
        item.attrs[key]
    if isinstance(item, h5py.Dataset):
        if item.external or item.is_virtual:
            raise ValueError(f"'{name}' lies in another file")
        if item.size * item.dtype.itemsize > MAX_ARRAY_BYTES:
            raise ValueError(f"'{name}' has {item.size} values")
        item[()]
        return
    if isinstance(item, h5py.Datatype):
        return
    for child in item:
        if not isinstance(item.get(child, getlink=True), h5py.HardLink):
            raise ValueError(f"'{child}' is a link")


if __name__ == "__main__":
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    try:
        config = read_all(sys.argv[1], OPTIONAL in sys.argv[2:])
    except Exception as error:
        sys.exit(f"{error}".split("\n")[0][:200] or type(error).__name__)
    sys.stdout.buffer.write(config)
