"""From float weights to integers: quantization-aware training, its pre-flight, and the recipes."""
