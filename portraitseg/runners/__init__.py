"""The runtimes by file name suffix; each is imported only when a file of its kind is opened."""

from collections.abc import Callable
from pathlib import Path

from portraitseg.errors import InputError
from portraitseg.runners import onnx, tflite
from portraitseg.runners.base import NotRunnable, Runner, TensorInfo
from portraitseg.runners.coreml import evaluator as coreml

__all__ = ["RUNNERS", "NotRunnable", "Runner", "TensorInfo", "open_runner"]

#: Suffix → opener (path, threads, reference_kernels).
RUNNERS: dict[str, Callable[[Path, int, bool], Runner]] = {
    ".tflite": tflite.open_tflite,
    ".onnx": onnx.open_onnx,
    ".mlpackage": coreml.open_coreml,
    ".mlmodel": coreml.open_coreml,
}


def open_runner(path: Path, threads: int = 1, reference_kernels: bool = False) -> Runner:
    """Opens an exported file with the runtime of its suffix.

    Args:
        path: a file with one image input and one mask output, its batch fixed to 1.
        threads: of the runtime, at least 1. Core ML chooses its own.
        reference_kernels: True takes the runtime's plainest arithmetic (TFLite: reference kernels, no delegate;
            onnxruntime: no graph optimization; Core ML: CPU only). Slow: for parity, not for latency.

    Raises:
        InputError: missing, of unknown suffix, damaged, or with tensors that are not a photo and a mask.
        NotRunnable: a file that no runtime of this machine opens.
    """
    if threads < 1:
        raise InputError(f"threads={threads}: at least 1")
    if path.suffix not in RUNNERS:
        raise InputError(f"{path}: no runtime for '{path.suffix}' (there are: {', '.join(RUNNERS)})")
    if not path.exists():
        raise InputError(f"{path}: no such file: export it first")
    return RUNNERS[path.suffix](path, threads, reference_kernels)
