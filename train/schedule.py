"""Learning rate by step."""

import math


def learning_rate(step: int, total: int, base: float, warmup: int, kind: str = "cosine") -> float:
    """Linear warm-up, then decay to zero by a cosine (Loshchilov & Hutter, 2017), or a constant.

    Args:
        step: steps done so far, 0 ≤ step < total.
        total: steps of the whole training.
        base: greatest learning rate.
        warmup: steps until it is reached.
        kind: `cosine` or `constant`.
    """
    if step < warmup:
        return base * (step + 1) / warmup
    if kind == "constant":
        return base
    return base * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
