"""The data formats by name."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from portraitseg import terms
from portraitseg.config import DataConfig
from portraitseg.data import (
    aisegment,
    catalogue,
    coco,
    cvat,
    decisions,
    easyportrait,
    eg1800,
    folder,
    labelme,
    mixed,
    p3m10k,
    pixelannotation,
    ppm100,
    shards,
    supervisely,
    synthetic_dataset,
    voc,
)
from portraitseg.data.base import Dataset, Sample, hash_keys, spread
from portraitseg.errors import InputError
from portraitseg.terms import Terms

__all__ = ["DATASETS", "Dataset", "Sample", "find_terms", "hash_keys", "open_dataset", "spread"]

DATASETS: dict[str, Callable[[DataConfig, int], Dataset]] = {
    "folder": folder.open_folder,
    "eg1800": eg1800.open_eg1800,
    "aisegment": aisegment.open_aisegment,
    "p3m10k": p3m10k.open_p3m10k,
    "ppm100": ppm100.open_ppm100,
    "easyportrait": easyportrait.open_easyportrait,
    "voc": voc.open_voc,
    "coco": coco.open_coco,
    "supervisely": supervisely.open_supervisely,
    "cvat": cvat.open_cvat,
    "labelme": labelme.open_labelme,
    "pixelannotation": pixelannotation.open_pixelannotation,
    "shards": shards.open_shards,
    "synthetic": synthetic_dataset.open_synthetic,
}


def open_dataset(config: DataConfig, seed: int) -> Dataset:
    """Opens the data of a run; reads lists, no photos.

    Raises:
        InputError: an unknown format, a missing folder, unpaired files, a malformed list or file of decisions.
    """
    if config.format not in DATASETS:
        raise InputError(f"data.format: '{config.format}' is none (there are: {', '.join(DATASETS)})")
    if config.sets:
        return mixed.open_mixed(config, lambda member: open_dataset(member, seed))
    dataset = decisions.apply(DATASETS[config.format](config, seed), config.decisions)
    return replace(dataset, terms=find_terms(config, dataset.terms))


def find_terms(config: DataConfig, brought: Mapping[str, Terms] | None = None) -> dict[str, Terms]:
    """What binds the photos, by set ("" is all others').

    The configuration's word counts, else what was `brought` along (by shards), else terms.json of the set or the
    folder, else what is known of the format's set.
    """
    known = catalogue.of_format(config.format) or Terms()
    if brought:
        by_set = dict(brought)
    elif config.root is None:
        by_set = {"": known}
    else:
        by_set = {"": terms.read(config.root) or known}
        for path in sorted(config.root.glob(f"*/{terms.TERMS_NAME}")):
            by_set[path.parent.name] = terms.read(path.parent) or known
    return {name: _stated(config, stated) for name, stated in by_set.items()}


def _stated(config: DataConfig, known: Terms) -> Terms:
    citation = config.citation or known.citation
    if config.licence == "unknown":
        use = known.use if config.use == "unknown" else terms.use_of(known.licence, config.use)
        return known.model_copy(update={"use": use, "citation": citation})
    return Terms(licence=config.licence, use=terms.use_of(config.licence, config.use), citation=citation)
