"""Teachers that look at the very pixels that the network sees: exported files, run on each augmented photo.

Function matching (Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent",
arXiv:2106.05237): what a teacher says of the photo as it was, which `train.label` asks once, is not what it says of the
same person turned, in other light, or before another room; here it is asked each time. Photos laid over each other
(mixup, Zhang et al. 2018, arXiv:1710.09412), whose mask no annotator could draw, have the teachers' alone.
Needs numpy, OpenCV and the files' runtimes: worker processes import this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8

from portraitseg import contract
from portraitseg.config import Config
from portraitseg.errors import InputError
from portraitseg.runners import open_runner
from portraitseg.runners.peer import open_foreign
from portraitseg.runners.tflite import probe

#: RGB photo of any size, uint8 → probability of person at the network's own size.
Teacher = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, "h2 w2"]]

#: Suffixes of what can teach in worker processes; an h5 would need TensorFlow in each of them.
SUFFIXES = (".tflite", ".onnx")

#: Between these lies the first photo's share of a mixture: outside, it would be that photo with some haze.
_LEAST_SHARE, _GREATEST_SHARE = 0.25, 0.75


@dataclass(frozen=True)
class FunctionMatching:
    """Blends into the masks of a batch what the teachers say of its photos.

    Attributes:
        files: of the teachers, of RGB photos; their mean is taken.
        blend: share of the teachers in the masks.
        mixup: probability that a photo is mixed with the next of the batch; its mask is the teachers' alone.
    """

    files: tuple[Path, ...]
    blend: float
    mixup: float

    def draw(self, photos: int, rng: np.random.Generator) -> list[float | None]:
        """For each photo of a batch: the share that it keeps where it is mixed with the next; None: it is not."""
        return [
            rng.uniform(_LEAST_SHARE, _GREATEST_SHARE) if rng.random() < self.mixup else None for _ in range(photos)
        ]

    def __call__(
        self,
        images: UInt8[np.ndarray, "n h w c"],
        targets: UInt8[np.ndarray, "n h w"],
        plain: UInt8[np.ndarray, "n h w c"] | None,
        is_certain: Sequence[bool],
        shares: Sequence[float | None],
    ) -> tuple[UInt8[np.ndarray, "m h w c"], UInt8[np.ndarray, "m h w"], UInt8[np.ndarray, "m h w c"] | None]:
        """The photos, masks and plain photos of a batch, in new arrays: as many as there are `shares`.

        Where there is one photo more, it is the one that the last may be mixed with; else that is the first.

        Where `is_certain` (for each photo) the mask stays as it is, unless the photo is mixed: of blank photos it is
        known that they show nobody, whatever a teacher sees in a poster. `shares` are of `draw`.
        """
        teachers, count = _open_all(self.files), len(shares)
        mixed, answers = images[:count].copy(), targets[:count].copy()
        mixed_plain = None if plain is None else plain[:count].copy()
        for index, (target, share) in enumerate(zip(targets, shares, strict=False)):
            blend = 0.0 if is_certain[index] else self.blend
            if share is not None:
                other = (index + 1) % len(targets)
                mixed[index] = _mix(images, index, other, share)
                if plain is not None and mixed_plain is not None:
                    mixed_plain[index] = _mix(plain, index, other, share)
                blend = 1.0
            if not blend:
                continue
            answer = 255 * ask(teachers, np.ascontiguousarray(mixed[index, ..., :3]))
            answers[index] = np.rint(blend * answer + (1 - blend) * target)
        return mixed, answers, mixed_plain


def of(config: Config) -> FunctionMatching | None:
    """What `distill.files` asks for; None where it names none."""
    distill = config.distill
    return FunctionMatching(distill.files, distill.blend, distill.mixup) if distill.files else None


def check(config: Config) -> None:
    """Opens the files of `distill.files` once, each in a process of its own where it could end ours.

    Raises:
        InputError: no such file, no .tflite or .onnx, not of RGB photos, or a description that does not fit.
    """
    for path in config.distill.files:
        if path.suffix not in SUFFIXES:
            raise InputError(f"distill.files {path}: not {' or '.join(SUFFIXES)}: export the network first")
        open_file(path)


def open_file(path: Path, is_probed: bool = False) -> Teacher:
    """Opens an exported or a stranger's file; of a .tflite a TOML beside it may say how it wants its pixels.

    Args:
        path: a .tflite or .onnx.
        is_probed: True where a process of its own ran it before.

    Raises:
        InputError: no such file, not of RGB photos, or a description that does not fit.
    """
    # that there is no such file, open_runner says
    is_tflite = path.suffix == ".tflite" and path.exists()
    if is_tflite and not is_probed:
        probe(path)
    runner = open_foreign(path) if is_tflite else open_runner(path)
    if runner.channels != "rgb":
        raise InputError(f"{path}: takes {runner.channels}: name a network of RGB photos")
    return runner.predict


def ask(teachers: Sequence[Teacher], image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """The teachers' mean probability of person at the photo's size."""
    answers = [contract.probability_to_alpha(teacher(image), image.shape[:2]) for teacher in teachers]
    return np.asarray(np.mean(answers, axis=0, dtype=np.float32))


def teach(teachers: Sequence[Teacher], image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """The teachers' mean probability of person at the photo's size, of the photo and of its mirror image."""
    mirrored = np.ascontiguousarray(image[:, ::-1])
    return (ask(teachers, image) + ask(teachers, mirrored)[:, ::-1]) / 2


def _mix(photos: UInt8[np.ndarray, "n h w c"], index: int, other: int, share: float) -> Float[np.ndarray, "h w c"]:
    return np.rint(share * photos[index] + (1 - share) * photos[other])


@lru_cache(maxsize=1)
def _open_all(paths: tuple[Path, ...]) -> tuple[Teacher, ...]:
    return tuple(open_file(path, is_probed=True) for path in paths)
