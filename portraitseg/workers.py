"""What pools of worker processes have in common: how many, and workers that end with their parent, and only then."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

#: What the workers of a pool all work on; in a worker.
_job: Any = None


def cores() -> int:
    """Cores that this process may use; macOS does not say which those are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_pool(workers: int, job: Any) -> ProcessPoolExecutor:
    """Processes in which `shared()` is the job: it is sent once, not with every call."""
    # spawn: the threads of TensorFlow, of the runtimes and of numba do not survive a fork
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max(1, workers), context, initializer=_start, initargs=(job,))


def shared() -> Any:
    """In a worker: the job of its pool."""
    return _job


def _start(job: Any) -> None:
    global _job
    _job = job
    settle()


def settle() -> None:
    """To be called first in a worker process."""
    # Ctrl-C is the parent's to handle: it finishes what it does, and saves
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    import cv2

    # one process per core: OpenCV's own threads would only get in each other's way
    cv2.setNumThreads(1)


def _follow_parent() -> None:
    """Ends the worker when its parent is gone, SIGKILL included: idle workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
