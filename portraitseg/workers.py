"""What pools of worker processes have in common: how many, and workers that end with their parent, and only then."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading


def cores() -> int:
    """Cores that this process may use; macOS does not say which those are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
