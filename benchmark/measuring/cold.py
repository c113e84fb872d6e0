"""A file's first moments, in a process of its own: loading, the first run, and the memory that it takes."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.measuring.model_files import FOREIGN, ModelFile
from portraitseg.errors import InputError

#: Runs after which memory is read: buffers that a runtime allocates late are there after the first two.
RUNS = 3

#: Seconds after which a file is given up.
TIMEOUT_S = 120.0

#: (height, width) of the gray photo that is run: the time of a network does not depend on what it sees.
_PHOTO = (480, 640, 3)


@dataclass(frozen=True)
class ColdStart:
    """What the first user of an app meets.

    Attributes:
        init_ms: opening the file, until its tensors are allocated; the runtime's library is loaded before.
        first_ms: the first run after that.
        peak_mb: greatest resident memory of the process from opening to the last run, less what it had before, in
            10⁶ bytes: the file's share, without Python and the runtime's library; None where the system tells none.
    """

    init_ms: float
    first_ms: float
    peak_mb: float | None


def cold_start(model_file: ModelFile, threads: int) -> ColdStart:
    """Opens and runs a file in a new process.

    Raises:
        InputError: the process did not come to a result; its last line says why.
    """
    is_own = model_file.manifest is not None
    command = [sys.executable, "-m", "benchmark.measuring.cold", str(model_file.path), str(threads), str(int(is_own))]
    try:
        done = subprocess.run(
            command, env=child_environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{model_file.path}: its first runs took more than {TIMEOUT_S:.0f} s") from error
    if done.returncode == -2:
        # Ctrl-C reaches both processes
        raise KeyboardInterrupt
    try:
        return ColdStart(**json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError) as error:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"{model_file.path}: no first run in a process of its own: {why[:200]}") from error


def child_environment() -> dict[str, str]:
    """The environment in which a new process finds our packages, wherever it is started."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def measure_here(model_file: ModelFile, threads: int) -> ColdStart:
    """Measures in this process, which should be a new one."""
    import numpy as np

    from benchmark.measuring.peers import open_file

    _load_runtime(model_file.path)
    memory = _Memory()
    image = np.full(_PHOTO, 128, np.uint8)
    begin_s = time.perf_counter()
    runner = open_file(model_file, threads)
    opened_s = time.perf_counter()
    inputs = runner.prepare(image)
    ready_s = time.perf_counter()
    runner.run(inputs)
    first_s = time.perf_counter()
    for _ in range(RUNS - 1):
        runner.run(inputs)
    return ColdStart(1000 * (opened_s - begin_s), 1000 * (first_s - ready_s), memory.peak_mb())


def _load_runtime(path: Path) -> None:
    # its library is loaded once in an app, whatever the file
    if path.suffix == ".onnx":
        import onnxruntime as _onnxruntime  # noqa: F401
    elif path.suffix == ".tflite":
        import ai_edge_litert.interpreter  # noqa: F401


class _Memory:
    """How much the greatest resident memory of this process rises from now on."""

    def __init__(self) -> None:
        self._before = _resident("VmRSS")
        try:
            # the kernel then counts the greatest anew; getrusage's would also know the parent's from before exec
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self._before = _resident("VmHWM")

    def peak_mb(self) -> float | None:
        after = _resident("VmHWM")
        return None if after is None or self._before is None else (after - self._before) / 1e6


def _resident(name: str) -> int | None:
    """Bytes by a line of /proc/self/status; on macOS the greatest so far, whatever the name; else None."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        sizes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
        return 1024 * int(sizes[0]) if sizes else None
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def main(arguments: list[str]) -> None:
    """The new process: path, threads, and 1 where the file is one of ours; prints JSON."""
    path, threads, is_own = Path(arguments[0]), int(arguments[1]), arguments[2] == "1"
    model_file = ModelFile(path, path.stem, "" if is_own else FOREIGN, None, 0, path if is_own else None)
    print(json.dumps(asdict(measure_here(model_file, threads))))


if __name__ == "__main__":
    main(sys.argv[1:])
