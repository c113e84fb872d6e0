"""A quantizer whose range is given once and never moves. Importing this imports TensorFlow."""

from typing import Any

from tensorflow_model_optimization.python.core.quantization.keras.default_8bit.default_8bit_quantize_configs import (
    Default8BitOutputQuantizeConfig,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantizers import MovingAverageQuantizer

from portraitseg.models.keras_route import keras


class FixedRangeQuantizer(MovingAverageQuantizer):
    """Asymmetric 8 bits over [low, high].

    TFMOT's own input quantizer starts at [-6, 6] and follows the data, so the converter would take the input scale from
    whatever photos QAT saw (0.00313 where they reached only 0.8), and camera bytes would mean something else.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
        self.low = low
        self.high = high

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        """Makes the two variables of the range; not trainable, so that no optimizer touches them."""
        del tensor_shape

        def bound(which: str, value: float) -> Any:
            return layer.add_weight(f"{name}_{which}", initializer=keras.initializers.Constant(value), trainable=False)

        return {"min_var": bound("min", self.low), "max_var": bound("max", self.high)}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        """Fake-quantizes `inputs` over the given range, in training too."""
        del training
        return super().__call__(inputs, False, weights, **kwargs)

    def get_config(self) -> dict[str, float]:
        """What `__init__` takes."""
        return {"low": self.low, "high": self.high}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FixedRangeQuantizer) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((self.low, self.high))


class FixedOutput(Default8BitOutputQuantizeConfig):
    """Quantizes a layer's output over [low, high], always."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low = low
        self.high = high

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """The one quantizer."""
        del layer
        return [FixedRangeQuantizer(self.low, self.high)]

    def get_config(self) -> dict[str, float]:
        """What `__init__` takes."""
        return {"low": self.low, "high": self.high}
