"""docs/vectors.json: what shrinking, ties, refinement and smoothing must say, for the same code in other languages.

Written by the Python reference (`python -m tests.golden.write`), read by the tests of every language: one truth.
"""

import json
from typing import Any

import numpy as np

from portraitseg import contract, refine
from portraitseg.refine import EdgeRefiner
from portraitseg.smooth import MaskSmoother

#: (height, width) of the network, of the photo that it is refined on, and the longer side of the coefficients.
NETWORK, PHOTO, SIDE = (24, 32), (45, 61), 16

#: (height, width) of photos, all shrunk to `NETWORK`: by area (twice), one side only, to a larger size, as it is.
SHRINKS = ((45, 61), (48, 64), (20, 61), (13, 17), (24, 32))


def _photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A bright disc and a small square before a dark gradient, with noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float64)
    y, x = y / size[0], x / size[1]
    inside = (y - 0.55) ** 2 + (x - 0.45) ** 2 < 0.09
    values = np.stack([40 + 60 * x, 70 + 50 * y, 110 - 40 * x], axis=2)
    inside |= (y > 0.04) & (y < 0.3) & (x > 0.74) & (x < 0.95)
    values[inside] = (205, 160, 130)
    return np.clip(values + generator.normal(0, 6, values.shape), 0, 255).astype(np.uint8)


def _probability(size: tuple[int, int], middle: float = 0.45, seed: int = 1) -> np.ndarray:
    """The disc as a network sees it, softly and a little off, the square a speck; multiples of 1/256: JSON is exact."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float64)
    distance = np.hypot((y + 0.5) / size[0] - 0.57, (x + 0.5) / size[1] - middle)
    values = 1 / (1 + np.exp((distance - 0.3) * 24)) + generator.normal(0, 0.02, size)
    values[1:7, -8:-2] = 0.9
    return (np.rint(np.clip(values, 0, 1) * 256) / 256).astype(np.float32)


def make() -> dict[str, Any]:
    """All cases, as JSON has them: bytes and floats in rows, then columns, then channels."""
    image, probability = _photo(PHOTO), _probability(NETWORK)
    inputs = contract.resize_image(image, NETWORK)
    refiner = EdgeRefiner(side=SIDE, radius=2, epsilon=1e-3, low=0.1, high=0.9, specks=0.08, holes=0.01)
    plain = refine.coefficients(inputs, probability, SIDE, 2, 1e-3)
    made = refine.coefficients(inputs, probability, SIDE, 2, 1e-3, specks=0.08)
    alpha = refine.apply(made, image)
    return {
        "about": "Written by the Python reference; `python -m tests.golden.write` writes it anew."
        " Arrays: rows, columns, channels.",
        "shrink": _shrinks(),
        "ties": _ties(),
        "stretch": {
            "about": "probability to alpha at the photo's size: bilinear, centres on centres, edges repeated",
            "tolerance": 1e-5,
            "probability": _list(probability),
            "size": list(PHOTO),
            "alpha": _list(contract.probability_to_alpha(probability, PHOTO)),
        },
        "refine": {
            "about": "the inputs are the last photo of `shrink` of that size; beyond the edge pixels are repeated",
            # float32 sums in another order; the 3×3 is solved with epsilon on its diagonal, so nothing blows up
            "tolerance": {"coefficients": 2e-3, "alpha": 2e-3, "alpha_mean": 2e-4, "mask_flipped_pixels": 4},
            "side": SIDE,
            "radius": 2,
            "epsilon": 1e-3,
            "specks": 0.08,
            "low": 0.1,
            "high": 0.9,
            "photo": image.tolist(),
            "inputs": inputs.tolist(),
            "probability": _list(probability),
            "coefficients_with_specks": _list(plain),
            "coefficients": _list(made),
            "alpha": _list(alpha),
            "shaped": _list(refine.shape(alpha, 0.1, 0.9)),
            "mask": (refiner(image, probability) > contract.PROBABILITY_THRESHOLD).astype(int).tolist(),
        },
        "smooth": _smooth(),
    }


def _shrinks() -> dict[str, Any]:
    cases = []
    for size in SHRINKS:
        photo = _photo(size, seed=size[1])
        shrinks = NETWORK[0] < size[0] and NETWORK[1] < size[1]
        method = "none" if size == NETWORK else "area" if shrinks else "linear"
        resized = contract.resize_image(photo, NETWORK)
        cases.append({"method": method, "photo": photo.tolist(), "resized": resized.tolist()})
    return {
        "about": "area where both sides shrink, else linear; area is to be exact, linear may be off by one of 255",
        "tolerance": {"area": 0, "linear": 1, "none": 0},
        "size": list(NETWORK),
        "cases": cases,
    }


def _ties() -> dict[str, Any]:
    half = np.float32(0.5)
    values = [0.0, 1 / 510, 0.25, 127 / 255, np.nextafter(half, np.float32(0)), 0.5, np.nextafter(half, np.float32(1))]
    values = np.array([*values, 128 / 255, 0.75, 254.5 / 255, 1.0], np.float32)
    stored = np.arange(126, 131, dtype=np.uint8)
    probabilities = contract.outputs_to_probability(stored.reshape(1, 1, -1, 1), 1 / 256, 0).ravel()
    return {
        "about": "one half is background: probability > 0.5, byte > 127; of two bytes as near, the lower",
        "probability": [float(value) for value in values],
        "byte": contract.probability_to_bytes(values).tolist(),
        "person": (values > contract.PROBABILITY_THRESHOLD).tolist(),
        "uint8_file": {
            "scale": 1 / 256,
            "zero_point": 0,
            "byte": stored.tolist(),
            "probability": probabilities.tolist(),
            "person": (probabilities > contract.PROBABILITY_THRESHOLD).tolist(),
        },
    }


def _smooth() -> dict[str, Any]:
    smoother = MaskSmoother(keep=0.9, low=0.1, high=0.5, reach=2, cut=0.2, gap_s=0.5)
    # noise, then a step to the side, then another scene, then a gap
    frames = [
        (0.0, _probability(NETWORK, seed=1)),
        (0.04, _probability(NETWORK, seed=2)),
        (0.08, _probability(NETWORK, 0.55, seed=3)),
        (0.12, 1 - _probability(NETWORK, 0.55, seed=4)),
        (1.0, 1 - _probability(NETWORK, 0.55, seed=5)),
    ]
    return {
        "about": "frames in their order; the fourth is a cut and the fifth follows on a gap: both as they are",
        "tolerance": 1e-5,
        "keep": 0.9,
        "low": 0.1,
        "high": 0.5,
        "reach": 2,
        "cut": 0.2,
        "gap_s": 0.5,
        "frames": [
            {"time_s": time_s, "probability": _list(value), "smoothed": _list(smoother(value, time_s))}
            for time_s, value in frames
        ],
    }


def _list(values: np.ndarray) -> Any:
    """Floats to 7 digits: float32 has no more."""
    return np.array([float(f"{value:.7g}") for value in values.ravel()]).reshape(values.shape).tolist()


def text() -> str:
    """The file, a row of an array a line would be nicer; compact, so that it stays small."""
    return json.dumps(make(), separators=(",", ":")) + "\n"
