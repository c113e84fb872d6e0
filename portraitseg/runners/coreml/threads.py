"""Keeps numpy's OpenBLAS on one thread while a Core ML file is evaluated.

Its threads wait for each other by spinning. The matrices of a portrait network are small, so that two threads save
little on an idle machine, and on a busy one they burn six times the processor time of one.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

#: Of numpy's wheels: 64-bit integers, 32-bit ones.
_SUFFIXES = ("64_", "")


@cache
def _functions() -> tuple[Any, Any] | None:
    """(get, set) of the number of threads; None where numpy brings no OpenBLAS of its own, as on macOS."""
    for path in sorted(Path(np.__file__).parent.with_name("numpy.libs").glob("libscipy_openblas*")):
        library = ctypes.CDLL(str(path))
        for suffix in _SUFFIXES:
            if hasattr(library, f"scipy_openblas_set_num_threads{suffix}"):
                return (
                    getattr(library, f"scipy_openblas_get_num_threads{suffix}"),
                    getattr(library, f"scipy_openblas_set_num_threads{suffix}"),
                )
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Sets it, and back to what it was."""
    functions = _functions()
    if functions is None:
        yield
        return
    get, change = functions
    before = get()
    change(1)
    try:
        yield
    finally:
        change(before)
