"""Opens a .tflite and runs it, in a process of its own, where a crash or a hang of the runtime does no harm.

Run as a script by `tflite.probe`: `_tflite_child.py FILE THREADS`. Exit 0: it opened and ran, with XNNPACK, and came
back without it (it need not run so). Exit 1: the runtime refused it, and the last line says why.
"""

import sys
from typing import Any

import numpy as np

#: A network for phones takes some hundred megabytes; what asks for more than this is refused and not swapped in.
MAX_MEMORY_BYTES = 8_000_000_000


def run_once(path: str, threads: int, with_xnnpack: bool) -> None:
    """Runs a file on zeros, on the greatest values and on noise.

    Raises:
        RuntimeError, ValueError, MemoryError: as the runtime says.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if with_xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(path, num_threads=threads, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    random = np.random.default_rng(0)
    for make in (np.zeros_like, _greatest, lambda values: _noise(values, random)):
        for details in interpreter.get_input_details():
            interpreter.set_tensor(details["index"], make(np.empty(details["shape"], details["dtype"])))
        interpreter.invoke()
        for details in interpreter.get_output_details():
            interpreter.get_tensor(details["index"])


def _greatest(values: Any) -> Any:
    kind = values.dtype
    return np.full_like(values, np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1)


def _noise(values: Any, random: np.random.Generator) -> Any:
    noise = random.random(values.shape)
    if np.issubdtype(values.dtype, np.integer):
        noise = noise * 256 + (0 if np.iinfo(values.dtype).min == 0 else -128)
    return noise.astype(values.dtype)


def main(path: str, threads: int) -> None:
    """Runs a file both ways."""
    try:
        run_once(path, threads, with_xnnpack=True)
    except Exception as error:
        sys.exit((str(error).strip().splitlines() or [type(error).__name__])[0])
    try:
        run_once(path, threads, with_xnnpack=False)
    except (RuntimeError, ValueError) as error:
        # MediaPipe's custom operator has no kernel but XNNPACK's
        print(f"without XNNPACK: {error}")


if __name__ == "__main__":
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    main(sys.argv[1], int(sys.argv[2]))
