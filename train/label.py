"""A copy of a folder of photos whose masks trained networks have drawn: self-training, and distillation into a file.

Pseudo-labels of a teacher (Lee, 2013; Xie et al., 2020, arXiv:1911.04252), soft ones as in distillation (Hinton et al.,
2015): photos without masks get the teacher's, photos of training a blend of theirs and the teacher's, which evens out
what annotators cut off. Of several teachers the mean is taken: where they err differently, it errs less than each. The
result is a folder like any other, so any network trains on it, and the teachers run once.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from rich.progress import track

from portraitseg import contract, files
from portraitseg.cli import console, say
from portraitseg.config import Config
from portraitseg.data import find_terms
from portraitseg.data.base import Dataset, Shard, hash_keys, is_measured, set_of
from portraitseg.data.folder import FolderDataset, path_of_key
from portraitseg.data.shards import ShardsDataset
from portraitseg.errors import InputError
from portraitseg.metrics import iou
from portraitseg.models import checkpoint
from portraitseg.terms import TERMS_NAME, Terms, worst
from train.folder_copy import LEAST, begin, copy_file, copy_packed, keys_in, open_copied, open_packed, write_splits
from train.function_matching import SUFFIXES, Teacher, open_file, teach
from train.weights.terms import of_weights

#: Of masks of 0 to 255 that are not bytes yet.
THRESHOLD = 255 * contract.PROBABILITY_THRESHOLD


def label(
    config: Config,
    weights: Sequence[Path],
    out: Path,
    blend: float,
    shard: Shard = Shard(),  # noqa: B008
    agreement: float = 0.0,
) -> None:
    """Writes the folder; what is there already of the same call is kept, so a stopped one goes on.

    Several machines that see `out` can each draw a shard: whoever finds that all masks are there ends the work.

    Photos are hard links where the disk allows it, of shards copies. Splits are as before, with all photos of
    `data.unlabelled_sets` in the training split; validation, test and blank photos keep what masks they have.

    Args:
        config: with a folder of photos, or with shards.
        weights: files of the teachers, of RGB photos: h5 of ours, a .tflite (a TOML beside it says how it wants its
            pixels and where its mask is, see `runners.peer.PeerSpec`), or an .onnx that takes value / 255.
        out: a new folder, or one that an earlier call has begun.
        blend: share of the teachers in the masks of labelled training photos, in [0, 1].
        shard: the part of the photos that is drawn here.
        agreement: a teacher whose mask's IoU with the median of all, the photo's own among them, is below is left out
            of that photo (`of_those_that_agree`).

    Raises:
        KeyboardInterrupt: Ctrl-C, saying what is kept.
        InputError: neither a folder nor shards, a split to measure on with photos of unlabelled sets, `out` holds
            something else or is that folder, no such file.
    """
    opened = open_packed if config.data.format == "shards" else open_copied
    dataset = opened(config, out, "label")
    train = dataset.keys(config.data.train_split)
    unlabelled = _unlabelled(dataset, config)
    teachers = [open_teacher(path) for path in weights]
    origin = {
        "weights_sha256": [files.sha256_with_spec(path) for path in weights],
        "blend": blend,
        "photos": {key: hash_keys(keys) for key, keys in (("train", train), ("unlabelled", unlabelled))},
    }
    if agreement:
        origin["agreement"] = agreement
    begin(out, origin)
    files.write_json(out / TERMS_NAME, _terms(config, dataset, weights).model_dump(mode="json"))
    # what was a split of photos without masks is part of the training split now
    splits = {name: list(keys) for name, keys in dataset.splits.items() if not set(keys) <= set(unlabelled)}
    splits[config.data.train_split] = list(dict.fromkeys((*train, *unlabelled)))
    # of blank sets it is known that they show nobody
    taught = {key for key in splits[config.data.train_split] if set_of(key) not in config.data.blank_sets}
    everything = list(dict.fromkeys(key for keys in splits.values() for key in keys))
    for key in everything[shard.part]:
        if isinstance(dataset, ShardsDataset):
            with_mask = key not in taught and set_of(key) not in config.data.blank_sets
            copy_packed(dataset, key, out, with_mask)
            continue
        photo, mask = dataset.files(key)
        copy_file(photo, path_of_key(out, key, "images", photo.suffix))
        if mask is not None and key not in taught:
            copy_file(mask, path_of_key(out, key, "masks", mask.suffix))
    try:
        for key, drawn in _masks(dataset, sorted(taught)[shard.part], teachers, blend, agreement, out):
            files.write_bytes(path_of_key(out, key, "masks", ".png"), cv2.imencode(".png", drawn)[1].tobytes())
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"the masks drawn so far are kept in {out}") from error
    sets = {set_of(key) for key in everything}
    there = {folder: keys_in(out, sets, folder) for folder in ("images", "masks")}
    if missing := len((set(everything) - there["images"]) | (taught - there["masks"])):
        say(f"{out}: shard {shard} is drawn; {missing} photos of other shards are not there yet")
        return
    hashes = write_splits(out, splits)
    say(
        f"{out}: {len(train)} photos with blended masks, {len(unlabelled)} with the teachers' alone "
        f"({config.data.train_split} {hashes[config.data.train_split]}); train on it with data.soft_masks=true and "
        "without data.unlabelled_sets"
    )


def _terms(config: Config, dataset: Dataset, weights: Sequence[Path]) -> Terms:
    """What binds the drawn masks: the photos and whoever drew."""
    said = config.distill.licence
    parts = [part for path in weights for part in of_weights(path, said)]
    photos = list(find_terms(config.data, dataset.terms).values())
    licences = dict.fromkeys([*(item.licence for item in photos), *(f"masks: {part.licence}" for part in parts)])
    return Terms(
        licence="; ".join(licences),
        use=worst([*(item.use for item in photos), *(part.use for part in parts)]),
        citation="; ".join(dict.fromkeys(item.citation for item in photos if item.citation)) or None,
    )


def open_teacher(path: Path) -> Teacher:
    """Opens an h5 of ours, or an exported or a stranger's file, whose first run is in a process of its own.

    Raises:
        InputError: no such file, not of RGB photos, or a description that does not fit.
    """
    if path.suffix in SUFFIXES:
        return open_file(path)
    model = checkpoint.load(path)
    size = model.input_shape[1:3]

    def predict(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h2 w2"]:
        return model.predict_on_batch(contract.image_to_inputs(image, size, "rgb"))[0, ..., 0]

    return predict


def _unlabelled(dataset: FolderDataset | ShardsDataset, config: Config) -> tuple[str, ...]:
    found: list[str] = []
    everything = dataset.suffixes if isinstance(dataset, FolderDataset) else set().union(*dataset.splits.values())
    for name in config.data.unlabelled_sets:
        keys = sorted(key for key in everything if set_of(key) == name)
        if not keys:
            raise InputError(f"data.unlabelled_sets: no set '{name}' in {dataset.name}")
        found += keys
    for split, keys_of_split in dataset.splits.items():
        if is_measured(split, config.data.val_split) and (shared := set(found) & set(keys_of_split)):
            raise InputError(
                f"{dataset.name}: '{min(shared)}' of split '{split}' has no mask: nothing is measured on it"
            )
    return tuple(found)


def _masks(
    dataset: Dataset, keys: Iterable[str], teachers: Sequence[Teacher], blend: float, agreement: float, out: Path
) -> Iterator[tuple[str, UInt8[np.ndarray, "h w"]]]:
    missing = [key for key in keys if not path_of_key(out, key, "masks", ".png").exists()]
    for key in track(missing, "drawing masks", console=console, transient=True, disable=not console.is_terminal):
        sample = dataset.load(key)
        if agreement:
            answers = [255 * teach([teacher], sample.image) for teacher in teachers]
            mask = of_those_that_agree(answers, sample.mask, agreement)
        else:
            mask = 255 * teach(teachers, sample.image)
        if sample.mask is not None:
            blended = blend * mask + (1 - blend) * sample.mask
            # what nobody knows the teacher alone says
            mask = blended if sample.ignore is None else np.where(sample.ignore, mask, blended)
        drawn = contract.probability_to_bytes(mask / 255)
        drawn[drawn < LEAST] = 0
        yield key, drawn


def of_those_that_agree(
    answers: Sequence[Float[np.ndarray, "h w"]], own: UInt8[np.ndarray, "h w"] | None, agreement: float
) -> Float[np.ndarray, "h w"]:
    """The mean of the answers, 0 to 255, whose IoU with the median of all masks, `own` among them, is `agreement`.

    Of two masks it is that with the other one. Where no answer has it: `own`, or without one the mean of all.
    """
    everyone = [*answers] if own is None else [*answers, own.astype(np.float64)]
    median = np.median(everyone, axis=0)
    kept = []
    for index, answer in enumerate(answers):
        witness = everyone[1 - index] if len(everyone) == 2 else median
        if iou(answer > THRESHOLD, witness > THRESHOLD) >= agreement:
            kept.append(answer)
    if kept:
        return np.asarray(np.mean(kept, axis=0))
    return everyone[-1] if own is not None else np.asarray(np.mean(answers, axis=0))
