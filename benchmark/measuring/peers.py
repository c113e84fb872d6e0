"""Opens what the table measures: our own files, and other people's by the description beside them."""

from benchmark.measuring.model_files import ModelFile
from portraitseg.runners import Runner, open_runner
from portraitseg.runners.peer import open_foreign, open_interpreter
from portraitseg.runners.tflite import TfliteRunner, probe


def admit(model_file: ModelFile, threads: int) -> None:
    """Runs a stranger's .tflite in a process of its own first; a file of a manifest was made and run by the export.

    Raises:
        InputError: it crashes, never ends, or does not run here.
    """
    if model_file.manifest is None and model_file.path.suffix == ".tflite":
        probe(model_file.path, threads)


def open_file(model_file: ModelFile, threads: int, with_xnnpack: bool = True) -> Runner:
    """Opens what the table measures: our own files by their runtime, a peer by its description where it has one.

    Args:
        model_file: what is opened.
        threads: of its runtime.
        with_xnnpack: False runs a .tflite on TFLite's own optimized kernels instead.

    Raises:
        InputError, NotRunnable: as `runners.open_runner`; a description that does not fit its file.
    """
    if model_file.manifest is None and model_file.path.suffix == ".tflite" and model_file.path.exists():
        return open_foreign(model_file.path, threads, with_xnnpack)
    if with_xnnpack:
        return open_runner(model_file.path, threads)
    return TfliteRunner(model_file.path, open_interpreter(model_file.path, threads, with_xnnpack), threads)
