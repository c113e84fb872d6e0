"""Other people's files: a TOML beside one says how it wants its pixels and where its mask is.

Without a TOML a peer is treated like a file of ours: RGB, /255, one output with one channel of probabilities.
"""

import tomllib
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from portraitseg import contract, files
from portraitseg.errors import InputError
from portraitseg.runners.base import Runner, TensorInfo

#: A description is some ten lines; more is some other file.
MAX_BYTES = 100_000

_NUMBERS = Annotated[tuple[float, float, float], Field(strict=False)]


class PeerSpec(BaseModel):
    """What a peer eats and returns; the pixel of a channel enters as `pixel · scale + offset`, pixel in 0..255."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: float | _NUMBERS = 1 / 255
    "One for all channels or one each, in the file's own channel order."
    offset: float | _NUMBERS = 0.0
    "As `scale`. (-1, 1) is scale = 0.00784313725, offset = -1."
    channel_order: Literal["RGB", "BGR"] = "RGB"
    output: str | None = None
    "Name of the output tensor; needed only where several could be the mask."
    output_channel: Annotated[int, Field(ge=0)] = 0
    "Which channel of the output is person."
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    "What turns the output into a probability: softmax is over the channels."
    invert: bool = False
    "True where the channel is background."


def read_spec(path: Path) -> PeerSpec:
    """Reads a description.

    Raises:
        InputError: unreadable, not TOML, an unknown key or an impossible value, with its name.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise InputError(f"{path}: over {MAX_BYTES // 1000} kB: is it the description of a file?")
        return PeerSpec.model_validate(tomllib.loads(text.decode()))
    except OSError as error:
        raise InputError(f"{path}: {files.explain(error)}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        known = ", ".join(PeerSpec.model_fields)
        where = ".".join(str(part) for part in fault["loc"])
        raise InputError(f"{path}: {where}: {fault['msg']} (keys are: {known})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error


class PeerRunner(Runner):
    """A foreign .tflite file behind the same face as ours: `run` takes what it wants and returns probabilities."""

    def __init__(self, path: Path, spec: PeerSpec, threads: int, with_xnnpack: bool = True) -> None:
        self._interpreter = open_interpreter(path, threads, with_xnnpack)
        try:
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path}: not a TFLite file that runs here: {str(error).splitlines()[:1]}") from error
        self.path, self.threads, self.spec = path, threads, spec
        self.runtime = f"ai-edge-litert {metadata.version('ai-edge-litert')}"
        ops = [op["op_name"] for op in self._interpreter._get_ops_details()]
        self.delegate = "xnnpack" if "DELEGATE" in ops else "none"
        self._input = _only_photo(path, self._interpreter.get_input_details())
        self._output = _choose_output(path, spec, self._interpreter.get_output_details())
        self.input = _info(self._input)
        self.size = (self.input.shape[1], self.input.shape[2])
        # what `run` returns: its own output made a probability
        self.output = TensorInfo(self._output["name"], (*map(int, self._output["shape"][:3]), 1), "float32")

    def prepare(
        self, image: UInt8[np.ndarray, "h w 3"], prior: Float32[np.ndarray, "h4 w4"] | None = None
    ) -> Shaped[np.ndarray, "1 h2 w2 3"]:
        """Photo → this file's inputs: resized by the contract, then normalised by the description."""
        assert prior is None, f"{self.path.name}: peers take photos alone"
        pixels = contract.resize_image(image, self.size)
        if self.spec.channel_order == "BGR":
            pixels = pixels[..., ::-1]
        values = pixels * np.asarray(self.spec.scale, np.float32) + np.asarray(self.spec.offset, np.float32)
        batch = np.ascontiguousarray(values[None])
        if self.input.dtype == "float32":
            return batch
        scale, zero_point = (self.input.scale or 1.0), (self.input.zero_point or 0)
        limits = np.iinfo(self.input.dtype)
        steps = np.round(batch / np.float32(scale)) + zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.input.dtype)

    def run(self, inputs: Shaped[np.ndarray, "1 h w 3"]) -> Float32[np.ndarray, "1 h2 w2 1"]:
        """Runs the file once and makes a probability of its output, as an app would have to."""
        self._interpreter.set_tensor(self._input["index"], inputs)
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._output["index"])
        info = _info(self._output)
        values = raw.astype(np.float32)
        if info.dtype != "float32":
            values = (values - np.float32(info.zero_point or 0)) * np.float32(info.scale or 1.0)
        probability = _activate(values, self.spec)
        return 1 - probability if self.spec.invert else probability


def open_interpreter(path: Path, threads: int, with_xnnpack: bool) -> Any:
    """TFLite's interpreter of a file, with XNNPACK or with TFLite's own optimized kernels; nothing is allocated yet.

    Raises:
        InputError: not a .tflite.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if with_xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        return Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=resolver)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: not a TFLite file that runs here: {str(error).splitlines()[:1]}") from error


def _activate(values: Float32[np.ndarray, "1 h w c"], spec: PeerSpec) -> Float32[np.ndarray, "1 h w 1"]:
    channel = slice(spec.output_channel, spec.output_channel + 1)
    if spec.activation == "softmax":
        # the greatest is taken away first: exp of a large logit is infinite
        powers = np.exp(values - values.max(axis=3, keepdims=True))
        return (powers / powers.sum(axis=3, keepdims=True))[..., channel]
    if spec.activation == "sigmoid":
        # by tanh, which does not overflow
        return (0.5 * (1 + np.tanh(0.5 * values[..., channel]))).astype(np.float32)
    return np.ascontiguousarray(values[..., channel])


def _only_photo(path: Path, details: list[dict[str, Any]]) -> dict[str, Any]:
    if len(details) != 1:
        raise InputError(f"{path}: {len(details)} inputs: a portrait file has one, the photo")
    shape = [int(side) for side in details[0]["shape_signature"]]
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or min(shape) < 1:
        raise InputError(f"{path}: its input is {shape}: expected 1×H×W×3 with fixed sizes")
    kind = np.dtype(details[0]["dtype"]).name
    if kind not in ("float32", "uint8", "int8"):
        raise InputError(f"{path}: its input is {kind}: expected float32, uint8 or int8")
    return details[0]


def _choose_output(path: Path, spec: PeerSpec, details: list[dict[str, Any]]) -> dict[str, Any]:
    named = [found for found in details if spec.output in (None, found["name"])]
    fitting = [found for found in named if len(found["shape"]) == 4 and found["shape"][3] > spec.output_channel]
    if len(fitting) != 1:
        shapes = ", ".join(f"'{found['name']}' {[int(side) for side in found['shape']]}" for found in details)
        what = "several outputs could be the mask: name one with output" if fitting else "no output fits"
        raise InputError(
            f"{files.spec_path(path)}: {what} (output_channel = {spec.output_channel}; there are: {shapes})"
        )
    if spec.activation == "softmax" and fitting[0]["shape"][3] < 2:
        raise InputError(f"{files.spec_path(path)}: activation: softmax over a single channel is always 1")
    return fitting[0]


def _info(details: dict[str, Any]) -> TensorInfo:
    scales = details["quantization_parameters"]["scales"]
    zero_points = details["quantization_parameters"]["zero_points"]
    dtype = np.dtype(details["dtype"]).name
    is_quantized = len(scales) == 1 and dtype != "float32"
    return TensorInfo(
        details["name"],
        tuple(int(side) for side in details["shape"]),
        dtype,
        float(scales[0]) if is_quantized else None,
        int(zero_points[0]) if is_quantized else None,
    )
