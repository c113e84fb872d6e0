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
from portraitseg.runners.describe import MapShape, has_logits, map_shape_of, refusal
from portraitseg.runners.tensors import UnfitError
from portraitseg.runners.tflite import TfliteRunner, open_tflite
from portraitseg.tflite.graph import read_graph

#: A description is some ten lines; more is some other file.
MAX_BYTES = 100_000

_NUMBERS = Annotated[tuple[float, float, float], Field(strict=False)]
_SIDE = Annotated[int, Field(ge=1)]
_SIDES = Annotated[tuple[_SIDE, _SIDE], Field(strict=False)]


class PeerSpec(BaseModel):
    """What a peer eats and returns; the pixel of a channel enters as `pixel · scale + offset`, pixel in 0..255."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: float | _NUMBERS = 1 / 255
    "One for all channels or one each, in the file's own channel order."
    offset: float | _NUMBERS = 0.0
    "As `scale`. (-1, 1) is scale = 0.00784313725, offset = -1."
    channel_order: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    "NCHW: channels before height and width, as PyTorch has them."
    output_layout: Literal["NHWC", "NCHW"] | None = None
    "That of the output; None: read from its shape, and for what is flat and has several channels as `layout`."
    output_size: (
        Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], Field(strict=False)] | None
    ) = None
    "Height and width of a flat output, 1×(H·W); None: the photo's."
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
        self._input = _only_photo(path, spec, self._interpreter.get_input_details())
        self.input = _info(self._input)
        sides = self.input.shape[1:3] if spec.layout == "NHWC" else self.input.shape[2:4]
        self.size = (sides[0], sides[1])
        self._output, self._map_shape = _choose_output(path, spec, self.size, self._interpreter.get_output_details())
        # what `run` returns: its own output made a probability
        shape = (1, self._map_shape.height, self._map_shape.width, 1)
        self.output = TensorInfo(self._output["name"], shape, "float32")

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Shaped[np.ndarray, "1 a b c"]:
        """Photo → this file's inputs: resized by the contract, then normalised by the description."""
        pixels = contract.resize_image(image, self.size)
        if self.spec.channel_order == "BGR":
            pixels = pixels[..., ::-1]
        values = pixels * np.asarray(self.spec.scale, np.float32) + np.asarray(self.spec.offset, np.float32)
        ordered = values if self.spec.layout == "NHWC" else values.transpose(2, 0, 1)
        batch = np.ascontiguousarray(ordered[None])
        if self.input.dtype == "float32":
            return batch
        scale, zero_point = (self.input.scale or 1.0), (self.input.zero_point or 0)
        limits = np.iinfo(self.input.dtype)
        steps = np.round(batch / np.float32(scale)) + zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.input.dtype)

    def run(self, inputs: Shaped[np.ndarray, "1 a b c"]) -> Float32[np.ndarray, "1 h2 w2 1"]:
        """Runs the file once and makes a probability of its output, as an app would have to."""
        self._interpreter.set_tensor(self._input["index"], inputs)
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._output["index"])
        info = _info(self._output)
        values = raw.astype(np.float32)
        if info.dtype != "float32":
            values = (values - np.float32(info.zero_point or 0)) * np.float32(info.scale or 1.0)
        probability = _activate(_as_map(values, self._map_shape), self.spec)
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


def _as_map(values: Float32[np.ndarray, "..."], map_shape: MapShape) -> Float32[np.ndarray, "1 h w c"]:
    """An output of any accepted shape as NHWC."""
    if map_shape.layout == "NCHW":
        return values.reshape(1, map_shape.channels, map_shape.height, map_shape.width).transpose(0, 2, 3, 1)
    return values.reshape(1, map_shape.height, map_shape.width, map_shape.channels)


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


def _only_photo(path: Path, spec: PeerSpec, details: list[dict[str, Any]]) -> dict[str, Any]:
    if len(details) != 1:
        raise InputError(f"{path}: {len(details)} inputs: a portrait file has one, the photo")
    shape = [int(side) for side in details[0]["shape_signature"]]
    channels, words = (3, "1×H×W×3") if spec.layout == "NHWC" else (1, "1×3×H×W")
    if len(shape) != 4 or shape[0] != 1 or shape[channels] != 3 or min(shape) < 1:
        other = " (layout says where the channels are)" if len(shape) == 4 and 3 in shape[1:] else ""
        raise InputError(f"{path}: its input is {shape}: expected {words} with fixed sizes{other}")
    kind = np.dtype(details[0]["dtype"]).name
    if kind not in ("float32", "uint8", "int8"):
        raise InputError(f"{path}: its input is {kind}: expected float32, uint8 or int8")
    return details[0]


def _choose_output(
    path: Path, spec: PeerSpec, size: tuple[int, int], details: list[dict[str, Any]]
) -> tuple[dict[str, Any], MapShape]:
    """The output that is the mask, and how to read it."""
    fitting = []
    for detail in details:
        shape = tuple(int(side) for side in detail["shape"])
        # what is four-dimensional has the layout of the input, unless it says another
        layout = spec.output_layout or (spec.layout if len(shape) == 4 else None)
        map_shape = map_shape_of(shape, spec.output_size or size, layout)
        if spec.output in (None, detail["name"]) and map_shape is not None and map_shape.channels > spec.output_channel:
            fitting.append((detail, map_shape))
    if len(fitting) != 1:
        shapes = ", ".join(f"'{detail['name']}' {[int(side) for side in detail['shape']]}" for detail in details)
        what = "several outputs could be the mask: name one with output" if fitting else "no output fits"
        reason = f"{files.spec_path(path)}: {what} (output_channel = {spec.output_channel}; there are: {shapes})"
        raise refusal(path, reason)
    if spec.activation == "softmax" and fitting[0][1].channels < 2:
        raise InputError(f"{files.spec_path(path)}: activation: softmax over a single channel is always 1")
    return fitting[0]


def open_foreign(path: Path, threads: int = 1, with_xnnpack: bool = True) -> Runner:
    """Opens a stranger's .tflite: by the description beside it, or as a file of ours where there is none.

    Raises:
        InputError: it is neither: then with the description that would fit; or a description that does not.
    """
    description = files.spec_path(path)
    if description.exists():
        return PeerRunner(path, read_spec(description), threads, with_xnnpack)
    try:
        if with_xnnpack:
            runner = open_tflite(path, threads)
        else:
            runner = TfliteRunner(path, open_interpreter(path, threads, with_xnnpack), threads)
    except UnfitError as error:
        raise refusal(path, str(error)) from error
    graph = read_graph(path)
    output = next(tensor for tensor in graph.outputs if tensor.name == runner.output.name)
    if has_logits(graph, output):
        raise refusal(path, f"{path}: output '{output.name}' comes from no sigmoid or softmax: logits are no mask")
    return runner


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
