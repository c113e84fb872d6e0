"""Batches that the tests' own process makes: a worker of its own begins with a second of imports."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from portraitseg import workers
from train import stream


def open_pool(_: int, job: Any) -> Executor:
    """As `portraitseg.workers.open_pool`, of one thread."""
    workers._job = job
    return ThreadPoolExecutor(1)


@pytest.fixture(autouse=True, scope="module")
def batches() -> Iterator[None]:
    """For a module of tests that has this among its names; tests/train/test_stream.py has the processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_job", None)
        patch.setattr(stream, "open_pool", open_pool)
        yield
