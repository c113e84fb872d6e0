"""A full disk, by the kernel's limit on file sizes."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

#: For processes under the limit: Python does not notice that a write falls short, and would leave half a module behind.
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def file_size(limit: int) -> Iterator[None]:
    """No file that this process or its children write gets longer than `limit` bytes: the write fails."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with mock.patch.dict(os.environ, NO_BYTECODE), mock.patch.object(sys, "dont_write_bytecode", True):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
