"""Opens what the table measures: our own files, and other people's by the description beside them."""

from benchmark.measuring.targets import Target
from portraitseg.runners import Runner, open_runner
from portraitseg.runners.peer import open_foreign, open_interpreter
from portraitseg.runners.tflite import TfliteRunner, probe


def admit(target: Target, threads: int) -> None:
    """Runs a stranger's .tflite in a process of its own first; a file of a manifest was made and run by the export.

    Raises:
        InputError: it crashes, never ends, or does not run here.
    """
    if target.manifest is None and target.path.suffix == ".tflite":
        probe(target.path, threads)


def open_target(target: Target, threads: int, with_xnnpack: bool = True) -> Runner:
    """Opens what the table measures: our own files by their runtime, a peer by its description where it has one.

    Args:
        target: the file.
        threads: of its runtime.
        with_xnnpack: False runs a .tflite on TFLite's own optimized kernels instead.

    Raises:
        InputError, NotRunnable: as `runners.open_runner`; a description that does not fit its file.
    """
    if target.manifest is None and target.path.suffix == ".tflite" and target.path.exists():
        return open_foreign(target.path, threads, with_xnnpack)
    if with_xnnpack:
        return open_runner(target.path, threads)
    return TfliteRunner(target.path, open_interpreter(target.path, threads, with_xnnpack), threads)
