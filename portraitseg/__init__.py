"""A photo in, a mask out (`Segmenter`); and what the stages share: contract, data, networks, manifest, runners.

Never imports a stage, nor TensorFlow by itself.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portraitseg.refine import EdgeRefiner
    from portraitseg.segment.segmenter import Segmentation, Segmenter
    from portraitseg.smooth import MaskSmoother

__all__ = ["EdgeRefiner", "MaskSmoother", "Segmentation", "Segmenter"]

_MODULES = {
    "EdgeRefiner": "refine",
    "MaskSmoother": "smooth",
    "Segmentation": "segment.segmenter",
    "Segmenter": "segment.segmenter",
}


def __getattr__(name: str) -> Any:
    # when asked for: the child processes of runners and networks need none of it
    if name not in _MODULES:
        raise AttributeError(f"module 'portraitseg' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"portraitseg.{_MODULES[name]}"), name)
