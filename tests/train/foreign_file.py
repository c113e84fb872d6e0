"""A .tflite as Google publishes its selfie segmentation, with the weights of a network of ours: for tests."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg.models import selfie
from tests.checks.gpu.builder import Builder, options

#: Of the custom operator: padding SAME, strides 2 and 2, as TFLite's C structure lies in memory.
_TRANSPOSE_CONV = struct.pack("<iii", 1, 2, 2)


class Writer:
    """Adds one operator after another, constants as float16 behind a DEQUANTIZE."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.build = Builder()

    def write(self, path: Path, wiring: str = "") -> Path:
        """Writes the file; `wiring` damages it: `skip` leaves the decoder's first gate without effect."""
        _, height, width, _ = self.model.input_shape
        x = self.swish(self.conv(self.build.input((1, height, width, 3), "input_1"), "stem_conv"))
        skips = [x]
        for index, (_, stride, _, _, squeeze, is_swish) in enumerate(selfie.ENCODER):
            act = self.swish if is_swish else self.relu
            y = act(self.conv(x, f"block{index}_expand_conv"))
            y = act(self.conv(y, f"block{index}_dw"))
            if squeeze:
                y = self.two("MUL", y, self.gate(y, f"block{index}"))
            y = self.conv(y, f"block{index}_project_conv")
            x = self.two("ADD", y, x) if stride == 1 else y
            if index in selfie.SKIPS:
                skips.append(x)
        y = self.relu(self.conv(x, "aspp_conv"))
        x = self.two("MUL", y, self.one("LOGISTIC", self.conv(self.pool(x), "aspp_excite_conv")))
        for step, skip in enumerate(reversed(skips)):
            x = self.conv(self.double(x), f"up{step}_top_conv")
            gate = self.gate(self.two("ADD", skip, x), f"up{step}")
            gated = self.two("MUL", skip, gate)
            x = self.two("ADD", skip if wiring == "skip" and step == 0 else gated, x)
            x = self.relu(self.conv(x, f"up{step}_fuse_conv"))
            x = self.two("ADD", x, self.relu(self.conv(x, f"up{step}_dw")))
        path.write_bytes(self.build.content(self.one("LOGISTIC", self.head(x))))
        return path

    def shape(self, x: int) -> tuple[int, ...]:
        return tuple(self.build.tensors[x].shape)

    def constant(self, values: np.ndarray) -> int:
        stored = self.build.constant(np.ascontiguousarray(values, np.float16))
        return self.build.op("DEQUANTIZE", [stored], self.build.tensor(values.shape))

    def conv(self, x: int, name: str) -> int:
        layer = self.model.get_layer(name)
        kernel, bias = layer.get_weights()
        is_depthwise = type(layer).__name__ == "DepthwiseConv2D"
        kind = "DepthwiseConv2D" if is_depthwise else "Conv2D"
        (stride, _), more = layer.strides, {"depthMultiplier": 1} if is_depthwise else {}
        table = options(kind, strideW=stride, strideH=stride, dilationWFactor=1, dilationHFactor=1, **more)
        n, h, w, _ = self.shape(x)
        out = self.build.tensor((n, -(-h // stride), -(-w // stride), len(bias)), name)
        inputs = [x, self.constant(kernel.transpose(3, 0, 1, 2)), self.constant(bias)]
        return self.build.op("DEPTHWISE_CONV_2D" if is_depthwise else "CONV_2D", inputs, out, table)

    def gate(self, x: int, name: str) -> int:
        y = self.relu(self.conv(self.pool(x), f"{name}_squeeze_conv"))
        return self.one("LOGISTIC", self.conv(y, f"{name}_excite_conv"))

    def pool(self, x: int) -> int:
        n, h, w, c = self.shape(x)
        table = options("Pool2D", strideW=w, strideH=h, filterWidth=w, filterHeight=h, padding=1)
        return self.build.op("AVERAGE_POOL_2D", [x], self.build.tensor((n, 1, 1, c)), table)

    def double(self, x: int) -> int:
        n, h, w, c = self.shape(x)
        out = self.build.tensor((n, 2 * h, 2 * w, c))
        table = options("ResizeBilinear", halfPixelCenters=True)
        return self.build.op("RESIZE_BILINEAR", [x, self.build.ints(2 * h, 2 * w)], out, table)

    def head(self, x: int) -> int:
        kernels, biases = zip(
            *(self.model.get_layer(f"logits_row{row}").get_weights() for row in range(2)), strict=True
        )
        n, h, w, _ = self.shape(x)
        kernel = np.stack([kernel[0, 0].T for kernel in kernels])[None]
        inputs = [x, self.constant(kernel), self.constant(biases[0][:1])]
        out = self.build.tensor((n, 2 * h, 2 * w, 1), "segment")
        return self.build.op("Convolution2DTransposeBias", inputs, out, custom_options=_TRANSPOSE_CONV)

    def swish(self, x: int) -> int:
        return self.build.op("HARD_SWISH", [x], self.build.like(x), options("HardSwish"))

    def relu(self, x: int) -> int:
        return self.one("RELU", x)

    def one(self, name: str, x: int) -> int:
        return self.build.op(name, [x], self.build.like(x))

    def two(self, name: str, x: int, y: int) -> int:
        return self.build.op(name, [x, y], self.build.like(x), options(name.capitalize()))
