"""Runs .tflite files in LiteRT's interpreter, on one thread: under the emulator, and natively for the reference.

`guest.py JOBS.json RESULTS`: each job is a file, its inputs (.npz, `run_tensor`), seconds and whether to count its last
run. What came of job i is in RESULTS/<i>.npz, or in RESULTS/<i>.error; which one runs is in RESULTS/begun. A job that
takes too long ends the process (SIGALRM). Needs Python and numpy alone, so that the emulated machine can be small.
"""

import ctypes
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

#: A system call that Linux does not know and the counting plugin listens to.
_CALL = 5000
_BEGIN, _END, _BORDER = 1, 2, 3


def _mark(what: int, value: int = 0) -> None:
    ctypes.CDLL(None, use_errno=True).syscall(*(ctypes.c_long(number) for number in (_CALL, what, value)))


def _base(library: str) -> tuple[int, int]:
    """Where a library lies in memory: first address and the one behind its last."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in lines if line.rstrip().endswith(library)]
    places = [[int(part, 16) for part in ends] for ends in ranges]
    return min(place[0] for place in places), max(place[1] for place in places)


def _run(job: dict[str, Any], number: int) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    with np.load(job["inputs"]) as archive:
        arrays = dict(archive)
    runs = 1 + max(int(key.split("_")[0]) for key in arrays)
    interpreter = Interpreter(model_path=job["file"], num_threads=1)
    interpreter.allocate_tensors()
    sources, results = interpreter.get_input_details(), interpreter.get_output_details()
    found = {}
    for run in range(runs):
        for place, details in enumerate(sources):
            interpreter.set_tensor(details["index"], arrays[f"{run}_{place}"])
        is_counted = job["counted"] and run == runs - 1
        if is_counted:
            _mark(_BEGIN, number)
        interpreter.invoke()
        if is_counted:
            _mark(_END, number)
        for place, details in enumerate(results):
            found[f"{run}_{place}"] = interpreter.get_tensor(details["index"])
    return found


def main(jobs_path: str, results_path: str) -> None:
    """Runs all jobs in their order."""
    results = Path(results_path)
    task = json.loads(Path(jobs_path).read_text())
    if task["library"]:
        from ai_edge_litert import interpreter  # noqa: F401  (maps the library)

        start, stop = _base(task["library"])
        (results / "maps").write_text(f"{start} {stop}")
        _mark(_BORDER, start + task["border"])
    for number, job in enumerate(task["jobs"]):
        if job is None:
            continue
        (results / "begun").write_text(str(number))
        signal.alarm(job["seconds"])
        try:
            found = _run(job, number)
        except (RuntimeError, ValueError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            (results / f"{number}.error").write_text(lines[0][:300])
            continue
        finally:
            signal.alarm(0)
        np.savez(results / f"{number}.npz", **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
