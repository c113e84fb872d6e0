"""Which devices of this machine train: its GPUs where TensorFlow can use them, else its processor."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from portraitseg.cli import say, warn
from portraitseg.errors import InputError

DeviceName = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True)
class Devices:
    """What trains here; `names` as TensorFlow calls them, such as GPU:0."""

    names: tuple[str, ...] = ("CPU:0",)

    def strategy(self) -> Any:
        """TensorFlow's, for the devices of one machine."""
        from portraitseg.models.keras_route import tf

        return tf.distribute.MirroredStrategy(list(self.names)) if len(self.names) > 1 else tf.distribute.get_strategy()


def choose(asked: str) -> Devices:
    """Finds the devices; before TensorFlow has begun.

    Args:
        asked: `gpu`: all GPUs, or none is an error; `cpu`: none, even where there are some; `auto`: those that work.

    Raises:
        InputError: GPUs are asked for and none can be used, with what was found.
    """
    if asked not in ("auto", "cpu", "gpu"):
        raise InputError(f"--device {asked}: auto, cpu or gpu")
    from portraitseg.models.keras_route import native_stderr_hidden, tf

    with native_stderr_hidden():
        # without a driver the CUDA library says so, as an error; below it is said where there is a GPU
        gpus = tf.config.list_physical_devices("GPU")
    if asked == "cpu":
        tf.config.set_visible_devices([], "GPU")
        return Devices()
    if gpus:
        for gpu in gpus:
            # so that another process can use them too
            tf.config.experimental.set_memory_growth(gpu, True)
        kinds = sorted({str(tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")) for gpu in gpus})
        say(f"training on {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}: {', '.join(kinds)}")
        return Devices(tuple(f"GPU:{index}" for index in range(len(gpus))))
    found = _found()
    if asked == "gpu":
        raise InputError(
            f"--device gpu: {found or 'no NVIDIA GPU on this machine'}: leave --device out to train on the CPU"
        )
    if found:
        warn(f"{found}; training on the CPU")
    return Devices()


def _found() -> str:
    """What stands between a GPU that is there and TensorFlow; empty where there is no sign of one."""
    card = _names_of_cards()
    if not card and not any(Path("/dev").glob("nvidia[0-9]*")):
        return ""
    from importlib.util import find_spec

    there = card or "an NVIDIA GPU"
    if not card:
        return f"{there} is there, but its driver does not answer (nvidia-smi): install the driver"
    if find_spec("nvidia") is None:
        return f"{there} is there, but not TensorFlow's CUDA packages: build the environment with make GPU=1"
    return f"{there} is there, with CUDA's packages, but TensorFlow cannot use it: is its driver too old (nvidia-smi)?"


def _names_of_cards() -> str:
    if (tool := shutil.which("nvidia-smi")) is None:
        return ""
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return ", ".join(sorted({line.strip() for line in told.splitlines() if line.strip()}))
