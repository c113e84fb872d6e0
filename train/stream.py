"""Batches from worker processes: all cores load and augment, memory stays flat, a batch follows from its number.

Nothing here has state that a resumed run would miss: the order of an epoch and the random numbers of a photo are drawn
from (seed, epoch, photo).
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8

from portraitseg import contract
from portraitseg.config import Config
from portraitseg.data.base import Dataset, blank_per_epoch, trainable_keys
from portraitseg.errors import InputError
from portraitseg.workers import cores, open_pool, shared
from train import augmenter, cutouts, function_matching
from train.augmenter import Augmenter
from train.copy_paste import draw_window, match_light, paste, paste_ignored, shrink
from train.cutouts import Cutouts
from train.edges import edge_band
from train.function_matching import FunctionMatching

#: Keep the random numbers of different uses apart; 3 and 4 were used once, and trainings go on as they began.
_ORDER, _AUGMENT, _BLANK_ORDER, _PASTE, _MATCH = 0, 1, 2, 5, 6

#: From here on, one number for each of several sets that are mixed.
_FIRST_SET_ORDER = 100

#: Between two looks at whether a batch is still wanted.
_CHECKED_S = 1.0

#: Small persons behind a small one, at most.
_MOST_BEHIND = 2


@dataclass(frozen=True)
class Photo:
    """One photo at the network's size.

    Attributes:
        image, target: augmented.
        plain: the image with the geometric augmentations alone; where nobody asks for it, anything.
        ignore: above 0 where the target is not known; None: it is known everywhere.
    """

    image: np.ndarray
    target: np.ndarray
    plain: np.ndarray
    ignore: np.ndarray | None = None


@dataclass(frozen=True)
class Batch:
    """Photos at the network's size, augmented.

    Attributes:
        images: RGB.
        targets: their masks, 0..255.
        edges: bands around the outlines of the targets, 0..255; None where no loss asks for them.
        plain: the photos with the geometric augmentations alone; None where no loss asks for them.
        ignore: above 0 where the target is not known, so that no loss counts it; None where the data know all.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    targets: UInt8[np.ndarray, "n h w"]
    edges: UInt8[np.ndarray, "n h w"] | None = None
    plain: UInt8[np.ndarray, "n h w 3"] | None = None
    ignore: UInt8[np.ndarray, "n h w"] | None = None


@dataclass(frozen=True)
class Share:
    """Which photos of a batch one machine makes: those of its replicas `first` to `last` (not included), of `of`."""

    first: int = 0
    last: int = 1
    of: int = 1

    def indices(self, photos: int) -> range:
        """Their places in a batch of so many; shares differ by one photo at most."""
        return range(photos * self.first // self.of, photos * self.last // self.of)


@dataclass(frozen=True)
class BatchMaker:
    """All that a worker needs to make batch number `step`.

    Attributes:
        keys: of the training photos.
        size: (height, width) of the network's input.
        batch_size: photos.
        is_soft: True: values between 0 and 255 of a mask are alpha.
        runs: how many of `keys`, one after the other, come how often in an epoch; none: all once.
        blank_keys, blank_per_epoch: background-only photos, and how many of them each epoch has on top of `keys`.
        paste_share: probability that the person of a training photo stands before another photo, one half of them of
            `keys`, one half of `blank_keys` where there are any.
        shrink_share: of these, the share in which that person and up to two more of `keys` are small and far away.
        match_light: how far that person's light and colours move to the other photo's at most.
        cutouts: hands and things that are pasted before all else; None: none are.
        with_edges, with_plain: whether batches have `Batch.edges` and `Batch.plain`.
        matching: teachers that look at the augmented photos; None: the masks are the photos' own.
        share: which photos of each batch are made; together all shares are the batch, to the bit.
    """

    dataset: Dataset
    keys: tuple[str, ...]
    size: tuple[int, int]
    batch_size: int
    seed: int
    augment: Augmenter
    is_soft: bool
    runs: tuple[tuple[int, float], ...] = ()
    blank_keys: tuple[str, ...] = ()
    blank_per_epoch: int = 0
    paste_share: float = 0.0
    shrink_share: float = 0.0
    match_light: float = 0.0
    cutouts: Cutouts | None = None
    with_edges: bool = False
    with_plain: bool = False
    matching: FunctionMatching | None = None
    share: Share = Share()

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; photos left over come in the next epoch, whose order is another."""
        return max(1, self._epoch_photos // self.batch_size)

    @property
    def _epoch_photos(self) -> int:
        return self._labelled_photos + self.blank_per_epoch

    @property
    def _labelled_photos(self) -> int:
        return epoch_photos(self.runs) if self.runs else len(self.keys)

    def _key(self, index: int, epoch: int) -> str:
        """The key of place `index` of an epoch, counted before its order is drawn."""
        if index >= self._labelled_photos:
            number = epoch * self.blank_per_epoch + index - self._labelled_photos
            return _take(self.blank_keys, number, self.seed, _BLANK_ORDER)
        first = 0
        for run, (count, weight) in enumerate(self.runs):
            total = epoch_photos([(count, weight)])
            if index < total:
                if total == count:
                    return self.keys[first + index]
                keys = self.keys[first : first + count]
                return _take(keys, epoch * total + index, self.seed, _FIRST_SET_ORDER + run)
            index, first = index - total, first + count
        return self.keys[index]

    def make(self, step: int) -> Batch:
        """Batch number `step`, counted from 0 over all epochs, or this machine's share of it.

        Raises:
            InputError: a photo that cannot be read or has no mask, or a file of `matching` that cannot be opened.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _permutation(self.seed, _ORDER, epoch, self._epoch_photos)
        whole = [int(order[(position * self.batch_size + offset) % len(order)]) for offset in range(self.batch_size)]
        share = self.share.indices(self.batch_size)
        indices = [whole[offset] for offset in share]
        # of the last photo the next one is another machine's
        is_borrowing = self.matching is not None and self.matching.mixup > 0 and len(share) < len(whole)
        made = [*indices, whole[share.stop % len(whole)]] if is_borrowing else indices
        photos = [self._make_photo(index, epoch) for index in made]
        images, targets = np.stack([photo.image for photo in photos]), np.stack([photo.target for photo in photos])
        plain = np.stack([photo.plain for photo in photos]) if self.with_plain else None
        ignored = [np.zeros(self.size, np.uint8) if photo.ignore is None else photo.ignore for photo in photos]
        if self.matching is not None:
            is_blank = [index >= self._labelled_photos for index in indices]
            drawn = self.matching.draw(len(whole), np.random.default_rng([self.seed, _MATCH, step]))
            images, targets, plain = self.matching(
                images, targets, plain, is_blank, [drawn[offset] for offset in share]
            )
            ignored = ignored[: len(indices)]
        return Batch(
            images=images,
            targets=targets,
            edges=np.stack([edge_band(target) for target in targets]) if self.with_edges else None,
            plain=plain,
            # of the data, not of these photos: every batch has the same parts
            ignore=np.stack(ignored) if self.dataset.has_ignored else None,
        )

    def _make_photo(self, index: int, epoch: int) -> Photo:
        """Training photo `index` of an epoch; those from `len(keys)` on are blank ones."""
        key = self._key(index, epoch)
        rng = np.random.default_rng([self.seed, _AUGMENT, epoch, index])
        photo = self._load_labelled(key, rng)
        # a background-only photo has no person to put elsewhere
        if self.paste_share and index < self._labelled_photos:
            photo = self._pasted(photo, np.random.default_rng([self.seed, _PASTE, epoch, index]))
        return photo

    def _pasted(self, photo: Photo, rng: np.random.Generator) -> Photo:
        """The photo, or its person before another one."""
        if rng.random() >= self.paste_share:
            return photo
        behind = self.blank_keys if self.blank_keys and rng.random() < 0.5 else self.keys
        back = self._load_labelled(behind[rng.integers(len(behind))], rng)
        if not self.shrink_share or rng.random() >= self.shrink_share:
            return self._before(photo, back, rng)
        nearest = self._shrunk(photo, rng)
        for _ in range(int(rng.integers(_MOST_BEHIND, endpoint=True))):
            other = self._load_labelled(self.keys[rng.integers(len(self.keys))], rng)
            back = self._before(self._shrunk(other, rng), back, rng)
        return self._before(nearest, back, rng)

    def _before(self, front: Photo, back: Photo, rng: np.random.Generator) -> Photo:
        if self.match_light:
            share = float(rng.uniform(0, self.match_light))
            matched = match_light(front.image, front.target, back.image, share)
            plain = match_light(front.plain, front.target, back.plain, share) if self.with_plain else matched
            front = replace(front, image=matched, plain=plain)
        image, target = paste(front.image, front.target, back.image, back.target)
        plain = paste(front.plain, front.target, back.plain, back.target)[0] if self.with_plain else image
        return Photo(image, target, plain, paste_ignored(front.target, front.ignore, back.ignore))

    def _shrunk(self, photo: Photo, rng: np.random.Generator) -> Photo:
        window = draw_window(self.size, rng)
        image, target = shrink(photo.image, photo.target, window)
        plain = shrink(photo.plain, photo.target, window)[0] if self.with_plain else image
        ignore = None if photo.ignore is None else shrink(photo.image, photo.ignore, window)[1]
        return Photo(image, target, plain, ignore)

    def _load_labelled(self, key: str, rng: np.random.Generator) -> Photo:
        sample = self.dataset.load(key)
        if sample.mask is None:
            raise InputError(
                f"photo '{sample.key}' has no mask: training needs one; take its set out of data.train_split"
            )
        target = contract.mask_to_target(sample.mask, self.size, self.is_soft)
        return self._augment(sample.image, target, rng, sample.ignore)

    def _augment(
        self, photo: np.ndarray, target: np.ndarray, rng: np.random.Generator, ignore: np.ndarray | None = None
    ) -> Photo:
        image = contract.resize_image(photo, self.size)
        if ignore is not None:
            # whatever an unknown pixel has a part in is unknown
            ignore = contract.mask_to_target(np.where(ignore, np.uint8(255), np.uint8(0)), self.size, is_soft=True)
        if self.cutouts is not None:
            image, target, ignore = self.cutouts(image, target, ignore, rng)
        return Photo(*self.augment.with_others(image, target, rng, self.with_plain, ignore))


def maker_of(dataset: Dataset, config: Config, needs: Collection[str] = ()) -> BatchMaker:
    """The batches of a configuration.

    Args:
        dataset: the photos.
        config: sets, sizes and augmentations.
        needs: of its losses, see `train.losses`.

    Raises:
        InputError: no training split, or an augmentation that is unknown or out of range. Where there are no blank
            photos there is none in a batch: `train_run` says so.
    """
    keys = dataset.keys(config.data.train_split)
    weighted = dataset.weighted(config.data.train_split)
    runs = weighted if any(weight != 1 for _, weight in weighted) else ()
    share = config.train.blank_share
    blank_keys = trainable_keys(dataset, config.data.blank_sets, config.data.val_split) if share else ()
    return BatchMaker(
        dataset=dataset,
        keys=keys,
        size=config.model.size,
        batch_size=config.train.batch_size,
        seed=config.seed,
        augment=augmenter.build(config.augment),
        is_soft=config.data.soft_masks,
        runs=runs,
        blank_keys=blank_keys,
        blank_per_epoch=blank_per_epoch(epoch_photos(weighted), share) if blank_keys else 0,
        paste_share=config.train.paste_share,
        shrink_share=config.train.shrink_share,
        match_light=config.train.match_light,
        cutouts=cutouts.of(config),
        with_edges="edge" in needs,
        with_plain="plain_logits" in needs,
        matching=function_matching.of(config),
    )


def epoch_photos(runs: Iterable[tuple[int, float]]) -> int:
    """Photos of an epoch by how many come how often; of each run at least one."""
    return sum(max(1, round(count * weight)) for count, weight in runs)


@lru_cache(maxsize=32)
def _permutation(seed: int, use: int, number: int, count: int) -> np.ndarray:
    # of a million photos 4 MB, not 8, and several are kept
    return np.random.default_rng([seed, use, number]).permutation(count).astype(np.uint32)


def _take(keys: tuple[str, ...], number: int, seed: int, use: int) -> str:
    """Number `number` of an endless row in which each round has every key once, in an order of its own."""
    round_, index = divmod(number, len(keys))
    return keys[_permutation(seed, use, round_, len(keys))[index]]


class BatchStream:
    """Batches `start`, `start + 1`, … in order, made ahead by worker processes. Use as a context manager."""

    def __init__(
        self, maker: BatchMaker, start: int = 0, workers: int = 0, check: Callable[[], None] = lambda: None
    ) -> None:
        """Starts the workers; `workers` = 0: one per core. `check` is called while a batch is waited for; may raise."""
        self._check = check
        self._workers = workers or cores()
        self._pool = open_pool(self._workers, maker)
        self._next = start
        self._pending: deque[Future[Batch]] = deque()

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # one that hangs on a photo would be waited for
            for process in multiprocessing.active_children():
                process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            # two batches a worker: one in the making, one waiting, so that no worker idles while a step runs
            while len(self._pending) < 2 * self._workers:
                self._pending.append(self._pool.submit(_make, self._next))
                self._next += 1
            yield self._wait(self._pending.popleft())

    def _wait(self, batch: Future[Batch]) -> Batch:
        while True:
            self._check()
            try:
                return batch.result(_CHECKED_S)
            except FutureTimeoutError:
                # on Python 3.11 a worker's own TimeoutError is of this type too
                if batch.done():
                    return batch.result()


def _make(step: int) -> Batch:
    maker: BatchMaker = shared()
    return maker.make(step)
