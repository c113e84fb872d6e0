"""One .tflite in MediaPipe's ImageSegmenter, whose mask is to be the interpreter's, and in litert-benchmark."""

import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from portraitseg import contract, metrics
from portraitseg.checks.gpu import environment
from portraitseg.child import Ended, exit_words, run_limited
from portraitseg.runners import Runner, open_runner
from portraitseg.runners.tflite import probe
from portraitseg.synthetic import portraits as synthetic
from portraitseg.tflite.graph import read_graph

FOLDER = environment.CACHE / "mediapipe"
LOCK = Path(__file__).with_name("requirements.lock")
CHILD = Path(__file__).with_name("child.py")

#: mediapipe 1.2.2 and numpy of the lock have wheels for these.
_TIME_LIMIT_S = 180.0

#: Portraits and pictures of noise that each file segments.
_PORTRAITS, _NOISE = 2, 1

#: Timed and untimed runs of the benchmark tool: it is to run, not to measure.
_RUNS, _WARMUP = 5, 1

#: Greatest difference where all is computed in float, or in integers that every kernel rounds alike: MediaPipe
#: multiplies a byte by 1/255, the contract divides, and its XNNPACK is of another version. Measured 1e-6 on a network
#: of ours, 3e-5 and 8e-5 on the two of MediaPipe on noise; wrong metadata differs by tenths.
EXACT = 3e-4

#: Where activations are rounded on the way to 8 bits, MediaPipe's XNNPACK and the interpreter's, of another version,
#: may round one step apart, and later layers add to it. Measured over two portraits and noise: mean 0.0014, greatest
#: 0.043, mask IoU 0.997; the interpreter's own two sets of kernels differ by 0.0024 and 0.082.
ROUNDED_MEAN, ROUNDED_IOU = 0.01, 0.97

Verdict = Literal["passed", "failed", "not_run"]


@dataclass(frozen=True)
class Segmented:
    """What MediaPipe's segmenter made of a file.

    Attributes:
        reason: why the verdict is not `passed`.
        max_abs, mean_abs, mask_iou: its confidence mask beside the interpreter's.
        labels: that it read from the file.
    """

    verdict: Verdict
    reason: str | None = None
    max_abs: float | None = None
    mean_abs: float | None = None
    mask_iou: float | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmarked:
    """What litert-benchmark made of a file; `median_ms` in whatever state this machine was."""

    verdict: Verdict
    reason: str | None = None
    median_ms: float | None = None


@dataclass(frozen=True)
class Result:
    """Both, of the file at `path`."""

    path: str
    segmenter: Segmented
    benchmark: Benchmarked

    @property
    def has_failed(self) -> bool:
        """Whether one of them cannot use the file."""
        return "failed" in (self.segmenter.verdict, self.benchmark.verdict)

    @property
    def reasons(self) -> list[str]:
        """Why it is not `passed` everywhere."""
        return [part.reason for part in (self.segmenter, self.benchmark) if part.reason]


def install() -> None:
    """Builds the environment in .cache/mediapipe/ from its hashed lock, where it is not there yet (0.5 GB).

    Raises:
        InputError: the packages could not be fetched.
    """
    if environment.is_installed(FOLDER, LOCK):
        return
    environment.call([sys.executable, "-m", "venv", "--clear", str(FOLDER)])
    pip = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # no dependencies: the lock names what a segmenter loads, and mediapipe's own list more
    environment.call([*pip, "--no-deps", "--require-hashes", "--requirement", str(LOCK)])
    environment.record(FOLDER, LOCK)


def examine(path: Path) -> Result:
    """Opens a file with both; needs `install`.

    Raises:
        InputError: no .tflite with a photo and a mask, or one that crashes the interpreter or never ends.
    """
    # it may be anybody's: MediaPipe has a process of its own anyway, the interpreter is in ours
    probe(path)
    return Result(path.name, segment(path, open_runner(path)), run_benchmark(path))


def segment(path: Path, runner: Runner) -> Segmented:
    """Compares MediaPipe's masks with those of the interpreter, on portraits and noise."""
    if (reason := why_not(runner)) is not None:
        return Segmented("not_run", reason)
    images = _images(runner)
    answer = _ask_child(path, images)
    if isinstance(answer, str):
        return Segmented("failed", answer)
    confidence, category, labels = answer
    expected = np.stack([runner.predict(image[..., :3]) for image in images])
    difference = np.abs(confidence - expected)
    mask_iou = metrics.iou(*(array.reshape(-1, array.shape[2]) > 0.5 for array in (confidence, expected)))
    fault = _mask_fault(path, difference, mask_iou) or _category_fault(confidence, category)
    mean = float(difference.mean(dtype=np.float64))
    return Segmented("failed" if fault else "passed", fault, float(difference.max()), mean, mask_iou, labels)


def why_not(runner: Runner) -> str | None:
    """Why MediaPipe's segmenter cannot be given a file; None: it can."""
    if runner.input.dtype not in ("float32", "uint8"):
        return f"MediaPipe takes float32 and uint8 inputs, this one is {runner.input.dtype}"
    if runner.channels == "rgba" and runner.input.dtype == "uint8":
        return "MediaPipe fails on bytes in four channels: give the Interpreter the bytes of a bitmap"
    return None


def run_benchmark(path: Path) -> Benchmarked:
    """Runs litert-benchmark on the CPU."""
    with tempfile.TemporaryDirectory(prefix="check-mediapipe-") as name:
        result = Path(name) / "result.json"
        module = "ai_edge_litert.tools.benchmark_litert_model"
        command = [sys.executable, "-m", module, "--model", str(path.resolve()), "--result_json", str(result)]
        command += ["--num_runs", str(_RUNS), "--warmup_runs", str(_WARMUP)]
        ended = run_limited(command, Path(name), _TIME_LIMIT_S)
        try:
            median = float(json.loads(result.read_text(encoding="utf-8"))["latency"]["median_ms"])
        except (OSError, ValueError, KeyError, TypeError):
            median = None
    if ended.code == 0 and median is not None:
        return Benchmarked("passed", None, median)
    return Benchmarked("failed", _last_words(ended))


def _images(runner: Runner) -> UInt8[np.ndarray, "n h w c"]:
    """Portraits and noise at the network's size, so that nothing is left to resize; under an alpha of noise."""
    random = np.random.default_rng(0)
    portraits = [synthetic.render(index, runner.size, 0)[0] for index in range(_PORTRAITS)]
    noise = [random.integers(0, 256, (*runner.size, 3), np.uint8) for _ in range(_NOISE)]
    images = np.stack([*portraits, *noise])
    if runner.channels == "rgb":
        return images
    return np.concatenate([images, random.integers(0, 256, (*images.shape[:3], 1), np.uint8)], axis=3)


def _ask_child(
    path: Path, images: UInt8[np.ndarray, "n h w c"]
) -> tuple[Float32[np.ndarray, "n h w"], UInt8[np.ndarray, "n h w"], tuple[str, ...]] | str:
    """Confidence masks, category masks and labels by MediaPipe; or why there are none."""
    with tempfile.TemporaryDirectory(prefix="check-mediapipe-") as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        parts = (path.resolve(), folder / "images.npy", folder / "masks.npz")
        command = [str(FOLDER / "bin" / "python"), "-I", str(CHILD), *map(str, parts)]
        ended = run_limited(command, folder, _TIME_LIMIT_S)
        try:
            with np.load(folder / "masks.npz", allow_pickle=False) as arrays:
                confidence, category = arrays["confidence"], arrays["category"]
                labels = tuple(str(label) for label in arrays["labels"])
        except (OSError, ValueError, KeyError, EOFError):
            return _last_words(ended)
    if ended.code != 0:
        return _last_words(ended)
    if confidence.shape != (*images.shape[:3], 1):
        return f"MediaPipe hands over masks of shape {confidence.shape}, expected {(*images.shape[:3], 1)}"
    return confidence[..., 0], category, labels


def _mask_fault(path: Path, difference: Float32[np.ndarray, "n h w"], mask_iou: float) -> str | None:
    # written so that a NaN is a fault
    if not _is_rounded(path):
        greatest = float(difference.max())
        return None if greatest <= EXACT else f"its mask differs by {greatest:.2g} (at most {EXACT:g})"
    mean = float(difference.mean(dtype=np.float64))
    if mean <= ROUNDED_MEAN and mask_iou >= ROUNDED_IOU:
        return None
    limits = f"at most {ROUNDED_MEAN:g}, at least {ROUNDED_IOU:g}"
    return f"its mask differs by {mean:.2g} on average, mask IoU {mask_iou:.4f} ({limits})"


def _is_rounded(path: Path) -> bool:
    """Whether activations are rounded to 8 bits: in int8 files, and before int8 kernels by those of dynamic range."""
    ops = read_graph(path).ops
    types = {tensor.dtype for op in ops for tensor in (*op.inputs, *op.outputs) if tensor is not None}
    # with int16 activations every kernel rounds alike
    return "INT8" in types and "INT16" not in types


def _category_fault(confidence: Float32[np.ndarray, "n h w"], category: UInt8[np.ndarray, "n h w"]) -> str | None:
    """The category mask of a model with one channel is 0 where the person is, and 255 elsewhere."""
    person = confidence > contract.PROBABILITY_THRESHOLD
    tie = confidence == contract.PROBABILITY_THRESHOLD
    share = float(((category == 0) == person)[~tie].mean())
    if share == 1:
        return None
    return f"its category mask is 0 where a person is, and only there, at {100 * share:.2f} % of the pixels"


def _last_words(ended: Ended) -> str:
    if ended.code is None:
        return f"no result within {_TIME_LIMIT_S:g} s"
    # exceptions of Python, and what MediaPipe and LiteRT print of theirs
    errors = re.findall(r"^(?:\w+Error: .*|ERROR:? .*|E\d{4} .*)", ended.log, re.M)
    return exit_words(ended.code) + (f": {errors[-1][:300].strip()}" if errors else "")
