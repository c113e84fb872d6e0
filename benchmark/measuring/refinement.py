"""Edge refinement and smoothing over time: chosen on `val` for each network, and measured like everything else."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from benchmark.measuring import clips
from benchmark.measuring.intervals import paired_difference
from benchmark.measuring.quality import truth_of
from portraitseg import contract
from portraitseg.data.base import Dataset, spread
from portraitseg.metrics import boundary_iou, dtssd, flipped_share, holes, iou, islands
from portraitseg.refine import EdgeRefiner
from portraitseg.segment.segmenter import Segmenter
from portraitseg.smooth import MaskSmoother
from portraitseg.synthetic import portraits as synthetic

#: What is tried. The coefficients' side is half of the network's: the last factor of two of a mask has no outline.
RADII, EPSILONS = (1, 2, 3), (1e-4, 3e-4, 1e-3, 3e-3)
KEEPS, STEPS, REACHES = (0.85, 0.9, 0.95), ((0.05, 0.3), (0.1, 0.5), (0.2, 0.6)), (0, 4)

#: Boundary IoU that smoothing may cost on one kind of clip in which something moves, and over all of them.
MOST_LOST, MOST_LOST_OVER_ALL = 0.01, 0.005

#: What flickers as little as is asked for, so that the outline decides: this share of the unsmoothed flicker, or this
#: much of the least where none has so little.
STEADY_SHARE, AS_STEADY = 0.25, 1.1

#: Clips of photos (still and panning each), and drawn persons (at each speed) to measure with.
PHOTO_CLIPS, PERSONS = 16, 8

#: Drawn persons to choose with: the first, others than those of three measured splits, and how many. Of eight persons
#: the mean moves by two points with who they are.
FIRST_CHOSEN, PERSONS_CHOSEN = 4 * PERSONS, 24

#: Height and width of the frame that costs are told of, and the runs of which the least counts: whatever else the
#: machine does only adds.
COST_SIZE, COST_RUNS = (720, 1280), 15

#: Frames at the beginning of a clip that are not scored: a smoother starts with nothing.
_WARM_UP = 3

Scores = dict[str, Float64[np.ndarray, " n"]]


@dataclass(frozen=True)
class Kept:
    """A photo with what each network said of it."""

    image: UInt8[np.ndarray, "h w 3"]
    truth: np.ndarray
    probability: np.ndarray


def predict_photos(segmenter: Segmenter, dataset: Dataset, split: str) -> Iterator[Kept]:
    """Each photo of a split with its truth and its probability.

    Raises:
        InputError: an unreadable photo, or one without a truth mask.
    """
    for key in sorted(dataset.keys(split)):
        sample = dataset.load(key)
        truth = contract.truth_to_mask(truth_of(sample))
        yield Kept(sample.image, truth, segmenter.predict(sample.image))


def score_photo(alpha: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What is counted of a photo's matte."""
    mask = alpha > contract.PROBABILITY_THRESHOLD
    measures: dict[str, Callable[..., float]] = {"iou": iou, "boundary_iou": boundary_iou}
    counts: dict[str, Callable[..., float]] = {"islands": islands, "holes": holes}
    return {name: float(measure(mask, truth)) for name, measure in {**measures, **counts}.items()}


def score_photos(photos: Sequence[Kept], refiner: EdgeRefiner | None) -> Scores:
    """The scores of each photo, refined or plain."""
    rows = []
    for photo in photos:
        size = (photo.truth.shape[0], photo.truth.shape[1])
        plain = contract.probability_to_alpha(photo.probability, size)
        rows.append(score_photo(refiner(photo.image, photo.probability) if refiner else plain, photo.truth))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def choose_refiner(photos: Sequence[Kept], side: int) -> tuple[EdgeRefiner, list[dict[str, Any]]]:
    """The smallest radius that is no worse than the best beyond noise, and its best epsilon.

    A small radius mends nearly as much and spoils less of a mask that was right already (docs/segment.md).

    Returns:
        The parameters, and what was tried: mean boundary IoU by radius and epsilon.
    """
    tried = {
        (radius, epsilon): score_photos(photos, EdgeRefiner(side=side, radius=radius, epsilon=epsilon))["boundary_iou"]
        for radius, epsilon in itertools.product(RADII, EPSILONS)
    }
    best = max(tried, key=lambda key: tried[key].mean())
    for radius in RADII:
        key = max((key for key in tried if key[0] == radius), key=lambda key: tried[key].mean())
        if key == best or paired_difference(tried[best], tried[key]).high >= 0:
            break
    table = [{"radius": r, "epsilon": e, "boundary_iou": float(v.mean())} for (r, e), v in tried.items()]
    return EdgeRefiner(side=side, radius=key[0], epsilon=key[1]), table


def cost(segmenter: Segmenter, smoother: MaskSmoother, refiner: EdgeRefiner) -> dict[str, float]:
    """Milliseconds of CPU time that the network, smoothing and refinement take for a drawn frame of `COST_SIZE`."""
    image = synthetic.render(0, COST_SIZE)[0]
    inputs, probability = segmenter.runner.prepare(image), segmenter.predict(image)
    steps: dict[str, Callable[[], Any]] = {
        "network_ms": lambda: segmenter.runner.run(inputs),
        "smooth_ms": lambda: smoother(probability),
        "refine_ms": lambda: refiner(image, probability),
    }
    return {name: min(_cpu_ms(step) for _ in range(COST_RUNS)) for name, step in steps.items()}


def _cpu_ms(step: Callable[[], Any]) -> float:
    start = time.process_time()
    step()
    return 1000 * (time.process_time() - start)


@dataclass(frozen=True)
class SeenClip:
    """A clip with what a network said of each frame."""

    clip: clips.Clip
    probabilities: Sequence[np.ndarray]


def predict_clips(
    segmenter: Segmenter, dataset: Dataset, split: str, first_person: int, persons: int = PERSONS
) -> Iterator[SeenClip]:
    """Still and panning clips of photos of a split, and some drawn persons from `first_person` on."""
    made: list[clips.Clip] = []
    for index, key in enumerate(spread(sorted(dataset.keys(split)), PHOTO_CLIPS)):
        sample = dataset.load(key)
        truth = truth_of(sample)
        made += [clips.still(sample.image, truth, index), clips.pan(sample.image, truth, index)]
    for clip in itertools.chain(made, clips.moving_clips(persons, first_person)):
        yield SeenClip(clip, [segmenter.predict(frame) for frame in clip.frames])


def score_clip(seen: SeenClip, smoother: MaskSmoother | None, refiner: EdgeRefiner | None = None) -> dict[str, float]:
    """Flicker, outline, lag and ghost of one clip, smoothed or not, refined afterwards or not."""
    clip, size = seen.clip, (seen.clip.truths[0].shape[0], seen.clip.truths[0].shape[1])
    if smoother is not None:
        smoother.reset()
    alphas = []
    for frame, probability in zip(clip.frames, seen.probabilities, strict=True):
        steady = smoother(probability) if smoother else probability
        alphas.append(refiner(frame, steady) if refiner else contract.probability_to_alpha(steady, size))
    masks = [alpha > contract.PROBABILITY_THRESHOLD for alpha in alphas]
    truths = [truth > contract.PROBABILITY_THRESHOLD for truth in clip.truths]
    pairs = list(zip(masks, truths, strict=True))[_WARM_UP:]
    uncovered = [(clip.uncovered(index), masks[index]) for index in range(_WARM_UP, len(masks))]
    ghosts = [np.count_nonzero(mask & gone) / np.count_nonzero(gone) for gone, mask in uncovered if gone.any()]
    return {
        "flipped_share": flipped_share(masks[1:], truths[1:]),
        "dtssd": dtssd(alphas[1:], [truth.astype(np.float32) for truth in truths[1:]]),
        "iou": float(np.mean([iou(mask, truth) for mask, truth in pairs])),
        "boundary_iou": float(np.mean([boundary_iou(mask, truth) for mask, truth in pairs])),
        "ghost": float(np.mean(ghosts)) if ghosts else 0.0,
    }


def score_clips(
    seen: Sequence[SeenClip], smoother: MaskSmoother | None, refiner: EdgeRefiner | None = None
) -> dict[str, Scores]:
    """Kind of clip → the scores of each clip."""
    rows: dict[str, list[dict[str, float]]] = {}
    for one in seen:
        rows.setdefault(one.clip.kind, []).append(score_clip(one, smoother, refiner))
    return {
        kind: {name: np.array([row[name] for row in scores]) for name in scores[0]} for kind, scores in rows.items()
    }


def choose_smoother(seen: Sequence[SeenClip]) -> tuple[MaskSmoother, list[dict[str, Any]]]:
    """The best outline of what takes the flicker of a camera that stands still, and costs little where something moves.

    Returns:
        The parameters, and what was tried. `keep` of 0 where nothing is worth it.
    """
    tried: list[tuple[MaskSmoother, float, Scores]] = []
    for keep, (low, high), reach in [(0.0, STEPS[0], 0), *itertools.product(KEEPS, STEPS, REACHES)]:
        smoother = MaskSmoother(keep=keep, low=low, high=high, reach=reach)
        scores = score_clips(seen, smoother)
        outlines = {kind: columns["boundary_iou"] for kind, columns in scores.items() if kind != "still"}
        tried.append((smoother, float(scores["still"]["flipped_share"].mean()), outlines))
    harmless = [one for one in tried if is_harmless(tried[0][2], one[2])]
    least = min(flipped for _, flipped, _ in harmless)
    steady = [one for one in harmless if one[1] <= max(AS_STEADY * least, STEADY_SHARE * tried[0][1])]
    chosen = max(steady, key=lambda one: _mean_of_kinds(one[2]))[0]
    table = [
        {"keep": one.keep, "low": one.low, "high": one.high, "reach": one.reach, "flipped": flipped}
        | {kind: float(values.mean()) for kind, values in outlines.items()}
        for one, flipped, outlines in tried
    ]
    return MaskSmoother(keep=chosen.keep, low=chosen.low, high=chosen.high, reach=chosen.reach), table


def is_harmless(plain: Scores, smoothed: Scores) -> bool:
    """Whether the outline loses little: on each kind of clip at most `MOST_LOST`, over all `MOST_LOST_OVER_ALL`.

    Args:
        plain: kind of clip → boundary IoU of each clip, unsmoothed.
        smoothed: the same, smoothed.
    """
    lost = [float((plain[kind] - smoothed[kind]).mean()) for kind in plain]
    return max(lost) <= MOST_LOST and float(np.mean(lost)) <= MOST_LOST_OVER_ALL


def _mean_of_kinds(outlines: Scores) -> float:
    return float(np.mean([values.mean() for values in outlines.values()]))


def photo_rows(name: str, split: str, photos: Sequence[Kept], refiner: EdgeRefiner) -> dict[str, Any]:
    """One line of the table: a file on a split, plain and refined, with the differences by photo."""
    plain, refined = score_photos(photos, None), score_photos(photos, refiner)
    row: dict[str, Any] = {"file": name, "split": split, "photos": len(photos)}
    for measure in ("iou", "boundary_iou"):
        row |= {measure: plain[measure].mean(), f"{measure}_refined": refined[measure].mean()}
        row |= paired_difference(plain[measure], refined[measure]).columns(f"{measure}_change")
    row["better_share"] = float((refined["boundary_iou"] > plain["boundary_iou"]).mean())
    for measure in ("islands", "holes"):
        row |= {measure: plain[measure].mean(), f"{measure}_refined": refined[measure].mean()}
    return row


def clip_rows(
    name: str, split: str, seen: Sequence[SeenClip], smoother: MaskSmoother, refiner: EdgeRefiner
) -> Iterator[dict[str, Any]]:
    """Lines of the table: a file on a kind of clip; plain, smoothed, and smoothed then refined."""
    ways: Mapping[str, tuple[MaskSmoother | None, EdgeRefiner | None]] = {
        "plain": (None, None),
        "smooth": (smoother, None),
        "refine": (None, refiner),
        "smooth+refine": (smoother, refiner),
    }
    scored = {way: score_clips(seen, *parts) for way, parts in ways.items()}
    for kind, plain in scored["plain"].items():
        for way, by_kind in scored.items():
            scores = by_kind[kind]
            row: dict[str, Any] = {"file": name, "split": split, "clip": kind, "way": way, "clips": len(scores["iou"])}
            row |= {measure: values.mean() for measure, values in scores.items()}
            for column, measure in (
                ("boundary_change", "boundary_iou"),
                ("flipped_change", "flipped_share"),
                ("ghost_change", "ghost"),
            ):
                row |= paired_difference(plain[measure], scores[measure]).columns(column)
            yield row


def parameters(chosen: EdgeRefiner | MaskSmoother) -> dict[str, Any]:
    """What a manifest holds of them."""
    return {name: value for name, value in asdict(chosen).items() if not name.startswith("_")}


def guide_side(segmenter: Segmenter) -> int:
    """Half of the longer side of a network's input."""
    return max(1, max(segmenter.runner.size) // 2)


def name_of(path: Path) -> str:
    """What the table calls a file."""
    return path.name
