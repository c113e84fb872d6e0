"""`Segmenter`: a photo in, a mask, a matte, a cut-out; no TensorFlow."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from portraitseg import contract, files, manifest
from portraitseg.data.reading import PHOTO_SUFFIXES, read_image
from portraitseg.errors import InputError
from portraitseg.refine import EdgeRefiner
from portraitseg.runners import RUNNERS, Runner, open_runner
from portraitseg.runners.base import NotRunnable
from portraitseg.segment import released
from portraitseg.smooth import MaskSmoother

Image = UInt8[np.ndarray, "h w 3"]

#: Sigma of a blurred background as a share of the picture's diagonal, where none is given.
BLUR_SHARE = 0.012

#: Greatest sigma in pixels at which a background is blurred; a larger one is blurred in a smaller picture, and faster.
_BLUR_PX = 6.0


@dataclass(frozen=True)
class Segmentation:
    """What a network says of one picture.

    Attributes:
        image: RGB, upright.
        probability: of person in [0, 1], at the network's size, as the network said it (smoothed in a video).
        alpha: the matte in [0, 1] at the picture's size; refined where that was asked for.
    """

    image: UInt8[np.ndarray, "h w 3"]
    probability: Float32[np.ndarray, "h2 w2"]
    alpha: Float32[np.ndarray, "h w"]

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        """Person or not, at the picture's size: alpha > 0.5."""
        return self.alpha > contract.PROBABILITY_THRESHOLD

    @property
    def is_empty(self) -> bool:
        """Whether nobody was found."""
        return not self.mask.any()

    def cutout(self) -> UInt8[np.ndarray, "h w 4"]:
        """RGBA, not premultiplied: the picture with alpha as its fourth channel."""
        return np.dstack([self.image, contract.probability_to_bytes(self.alpha)])

    def over(self, background: tuple[int, int, int] | UInt8[np.ndarray, "h2 w2 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The person before another background.

        Args:
            background: a colour (RGB, 0..255), or a picture, which is scaled and cropped in the middle to fill this.

        Raises:
            ValueError: neither three values from 0 to 255 nor RGB pixels.
        """
        if not isinstance(background, np.ndarray):
            if len(background) != 3 or not all(0 <= value <= 255 for value in background):
                raise ValueError(f"background {background}: give red, green and blue from 0 to 255, or a picture")
            behind = np.empty_like(self.image)
            behind[:] = background
        else:
            behind = cover(_check(background), (self.image.shape[0], self.image.shape[1]))
        return cv2.blendLinear(self.image, behind, self.alpha, 1 - self.alpha)

    def blur(self, radius: float | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """The person before a blurred background, into which no colour of the person bleeds.

        Args:
            radius: sigma of the Gaussian in pixels, above 0; default: 1.2 % of the diagonal.
        """
        height, width = self.alpha.shape
        sigma = radius if radius is not None else max(1.0, BLUR_SHARE * float(np.hypot(height, width)))
        if not sigma > 0:
            raise ValueError(f"radius {radius}: above 0")
        factor = max(1.0, sigma / _BLUR_PX)
        size = max(1, round(width / factor)), max(1, round(height / factor))
        # each pixel counts as far as it is background; the small share is for where there is none at all
        weight = 1 - cv2.resize(self.alpha, size, interpolation=cv2.INTER_AREA) + np.float32(1e-3)
        small = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA).astype(np.float32) * weight[..., None]
        blurred, total = (cv2.GaussianBlur(plane, (0, 0), sigma / factor) for plane in (small, weight))
        behind = np.clip(np.rint(blurred / total[..., None]), 0, 255).astype(np.uint8)
        behind = cv2.resize(behind, (width, height), interpolation=cv2.INTER_LINEAR)
        return cv2.blendLinear(self.image, behind.reshape(self.image.shape), self.alpha, 1 - self.alpha)


def cover(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A picture scaled and cropped in the middle so that it fills (height, width)."""
    height, width = image.shape[:2]
    factor = max(size[0] / height, size[1] / width)
    scaled = max(size[0], round(height * factor)), max(size[1], round(width * factor))
    resized = contract.resize_image(image, scaled)
    top, left = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    return np.ascontiguousarray(resized[top : top + size[0], left : left + size[1]])


@dataclass
class Segmenter:
    """Runs a released network, or any exported file, on pictures. Not shared between threads: make one for each.

    Attributes:
        model: a released name (`selfie_general`), or the path of a .tflite, .onnx, .mlpackage or .mlmodel. A foreign
            .tflite may have a description beside it (`<stem>.toml`, see `runners.peer.PeerSpec`).
        threads: of the runtime, at least 1.
        refine: True refines edges with the parameters that the manifest beside the file has (or the defaults); False
            gives the contract's mask and probability as they are; an `EdgeRefiner` has its own.

    Raises:
        InputError: no such model, a damaged file, a runtime that is not installed.
    """

    model: str | Path = released.DEFAULT
    threads: int = 1
    refine: bool | EdgeRefiner = True
    path: Path = field(init=False)
    runner: Runner = field(init=False, repr=False)
    refiner: EdgeRefiner | None = field(init=False)
    _smooth: manifest.Smooth | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self.path = find_model(self.model)
        source = _read_source(self.path)
        self.runner = _open(self.path, self.threads, is_ours=source is not None)
        self.refiner = self.refine if isinstance(self.refine, EdgeRefiner) else None
        if self.refine is True:
            chosen = source.refine if source else None
            self.refiner = EdgeRefiner(**chosen.parameters) if chosen else EdgeRefiner()
        self._smooth = source.smooth if source else None

    def segment(self, image: Image | str | Path) -> Segmentation:
        """Segments one picture.

        Args:
            image: RGB, (h, w, 3) uint8, upright; or the path of a photo, whose EXIF rotation is applied.

        Raises:
            InputError: a photo that cannot be read.
            ValueError: an array of another shape or type.
        """
        pixels = read_image(Path(image))[0] if isinstance(image, str | Path) else _check(image)
        return self._finish(pixels, self.predict(pixels))

    def segment_files(self, paths: Iterable[str | Path]) -> Iterator[tuple[Path, Segmentation]]:
        """Segments photos one after the other; a folder stands for the photos in it. One is in memory at a time.

        Hidden files of a folder are left out.

        Raises:
            InputError: a photo that cannot be read.
            TypeError: a single path, whose letters would be taken for paths.
        """
        if isinstance(paths, str | Path):
            raise TypeError(f"{paths}: give a list of paths: ['{paths}']")
        for given in paths:
            path = Path(given)
            for photo in sorted(filter(_is_photo, path.iterdir())) if path.is_dir() else [path]:
                yield photo, self.segment(photo)

    def segment_frames(
        self, frames: Iterable[Image], smooth: bool | MaskSmoother = True, fps: float | None = None
    ) -> Iterator[Segmentation]:
        """Segments the frames of a video in their order, smoothed by those before.

        Args:
            frames: RGB, (h, w, 3) uint8.
            smooth: True smooths with the parameters of the manifest (or the defaults); False does not.
            fps: frames a second, where they are known to be even: after a gap smoothing begins anew.
        """
        smoother = smooth if isinstance(smooth, MaskSmoother) else self.smoother() if smooth else None
        for index, frame in enumerate(frames):
            pixels = _check(frame)
            probability = self.predict(pixels)
            if smoother:
                probability = smoother(probability, index / fps if fps else None)
            yield self._finish(pixels, probability)

    def smoother(self) -> MaskSmoother:
        """A new smoother with the parameters of the manifest, for one video."""
        return MaskSmoother(**self._smooth.parameters) if self._smooth else MaskSmoother()

    def predict(self, image: Image) -> Float32[np.ndarray, "h2 w2"]:
        """Probability of person at the network's size."""
        probability = self.runner.predict(image)
        # NaN would be an empty mask, and nobody would know
        if not np.isfinite(probability).all():
            raise InputError(f"{self.path}: says NaN of a picture: get an undamaged copy, or another file")
        return np.clip(probability, 0, 1)

    def _finish(self, image: Image, probability: Float32[np.ndarray, "h2 w2"]) -> Segmentation:
        return Segmentation(image, probability, self.matte(image, probability))

    def matte(self, image: Image, probability: Float32[np.ndarray, "h2 w2"]) -> Float32[np.ndarray, "h w"]:
        """Probability → alpha at the picture's size, refined unless that is switched off."""
        if self.refiner is not None:
            return self.refiner(image, probability)
        return contract.probability_to_alpha(probability, (image.shape[0], image.shape[1]))


def find_model(model: str | Path) -> Path:
    """The file of a released name or a path.

    Raises:
        InputError: neither.
    """
    path = Path(model)
    # a folder may have the name of a network
    if path.suffix in RUNNERS or path.is_file():
        return path
    return released.find(str(model))


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _read_source(path: Path) -> manifest.Source | None:
    """What the manifest beside a file says of its weights; None for a file that no manifest lists."""
    index = path.parent / manifest.MANIFEST_NAME
    if not index.is_file():
        return None
    listed = manifest.read(manifest.Manifest, index)
    entry = next((entry for entry in listed.files if entry.path == path.name), None)
    if entry is None or not path.exists():
        return None
    if files.sha256(path) != entry.sha256:
        raise InputError(f"{path}: its SHA-256 differs from {index.name}: copy the folder again")
    return listed.source


def _open(path: Path, threads: int, is_ours: bool) -> Runner:
    if threads < 1:
        raise InputError(f"threads={threads}: at least 1")
    try:
        if not is_ours and path.suffix == ".tflite" and path.exists():
            from portraitseg.runners.peer import PeerRunner, read_spec
            from portraitseg.runners.tflite import probe

            # a stranger's file may crash the runtime: in a process of its own first
            probe(path, threads)
            if (description := files.spec_path(path)).exists():
                return PeerRunner(path, read_spec(description), threads)
        return open_runner(path, threads)
    except NotRunnable as error:
        raise InputError(f"{path}: {error}: needs {error.needs}") from error
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("portraitseg"):
            raise
        raise InputError(f"{path}: needs {error.name}: pip install 'portraitseg[all]', or take a .tflite") from error


def _check(image: np.ndarray) -> Image:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"{given}: give RGB pixels as uint8 (height, width, 3), or a path")
    if not image.size:
        raise ValueError(f"{image.shape}: a picture without pixels")
    return image
