"""TFMOT's layout with one fault mended; in a file of its own, for TFMOT is slow to import."""

from typing import Any

from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_configs,
    default_8bit_quantize_layout_transform,
    default_8bit_quantize_registry,
    default_8bit_quantize_scheme,
)


class Scheme(default_8bit_quantize_scheme.Default8BitQuantizeScheme):
    """TFMOT's 8-bit scheme, in which the kernel of a convolution that only a ReLU follows is quantized too.

    TFMOT 0.8.1 tells such a convolution to quantize nothing, so that no rounding comes between it and the ReLU; that
    takes the kernel along, and training learns with weights that the file does not have.
    """

    def get_layout_transformer(self) -> Any:
        """Returns what rewrites the network before its layers are wrapped."""
        return _Layout()


class _Layout(default_8bit_quantize_layout_transform.Default8BitQuantizeLayoutTransform):
    def apply(self, model: Any, layer_quantize_map: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """TFMOT's rewrites; then each convolution that was to quantize nothing quantizes its kernel alone."""
        model, chosen = super().apply(model, layer_quantize_map)
        registry = default_8bit_quantize_registry.Default8BitQuantizeRegistry()
        for layer in model.layers:
            config = chosen.get(layer.name, {}).get("quantize_config")
            if not isinstance(config, default_8bit_quantize_configs.NoOpQuantizeConfig) or not hasattr(
                layer, "kernel_size"
            ):
                continue
            config = registry.get_quantize_config(layer)
            config.activation_attrs, config.quantize_output = [], False
            chosen[layer.name]["quantize_config"] = config
        return model, chosen
