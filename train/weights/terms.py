"""What binds a training beside its photos: the weights that it begins with, teachers, background-only photos."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from portraitseg import files, manifest, terms
from portraitseg.config import Config
from portraitseg.data.base import Dataset, set_of
from portraitseg.manifest import Derived, FileEntry, Manifest, Source
from portraitseg.models import checkpoint
from train.weights import pretrained

_LIST = TypeAdapter(list[Derived])

#: ImageNet's photos are for research; what Google made of them it gives away as Apache-2.0.
_IMAGENET = Derived(
    kind="init", name="EfficientNet-Lite0, trained on ImageNet (Google)", licence=terms.KNOWN_LICENCE, use="any"
)


def derived_from(
    config: Config, dataset: Dataset, blank_keys: Sequence[str], init: Path | None, init_sha256: str
) -> tuple[Derived, ...]:
    """All of it, for the manifest."""
    sources: list[Derived] = []
    if init is not None:
        sources += of_h5(init, init_sha256, config.train.init_licence)
    elif config.model.pretrained == "imagenet" or (
        config.model.pretrained == "auto" and pretrained.is_known(config.model.name)
    ):
        sources.append(_IMAGENET)
    for path in config.distill.files:
        sources += of_file(path, config.distill.licence)
    for name in sorted({set_of(key) for key in blank_keys}):
        stated = dataset.terms_of(name)
        sources.append(Derived(kind="blank", name=name or dataset.name, licence=stated.licence, use=stated.use))
    return tuple(dict.fromkeys(sources))


def of_weights(path: Path, licence: str = "unknown") -> list[Derived]:
    """What binds an h5, or an exported file."""
    return of_h5(path, files.sha256(path), licence) if path.suffix == ".h5" else of_file(path, licence)


def of_h5(path: Path, sha256: str, licence: str = "unknown") -> list[Derived]:
    """What binds the weights of an h5: what it says itself, what was released with it, or what the user says."""
    note = checkpoint.read_note(path)
    try:
        listed = _LIST.validate_json(note) if note else []
    except ValidationError:
        listed = []
    if not listed and (source := _released_as(sha256)) is not None:
        listed = _LIST.validate_json(terms.note(source))
    if not listed:
        return [Derived(kind="init", name=path.name, licence=licence, use=terms.use_of(licence), sha256=sha256)]
    # of a chain of trainings the first file's name tells most
    named = (item.name if ".h5: " in item.name else f"{path.name}: {item.name}" for item in listed)
    return [
        item.model_copy(update={"kind": "init", "name": name, "sha256": sha256})
        for item, name in zip(listed, named, strict=True)
    ]


def of_file(path: Path, licence: str = "unknown") -> list[Derived]:
    """What binds an exported file that is learnt from: a known one, what its manifest says, or what the user says."""
    sha256 = files.sha256(path)
    if (name := terms.KNOWN_WEIGHTS.get(sha256)) is not None:
        return [Derived(kind="teacher", name=name, licence=terms.KNOWN_LICENCE, use="any", sha256=sha256)]
    beside = path.parent / manifest.MANIFEST_NAME
    if beside.is_file():
        listed = manifest.read(Manifest, beside)
        if any(_is_file(entry, path, sha256) for entry in listed.files):
            return [
                item.model_copy(update={"kind": "teacher", "name": f"{path.name}: {item.name}", "sha256": sha256})
                for item in _LIST.validate_json(terms.note(listed.source))
            ]
    return [Derived(kind="teacher", name=path.name, licence=licence, use=terms.use_of(licence), sha256=sha256)]


def note_of(parts: Iterable[Derived]) -> str:
    """For `checkpoint.annotate`."""
    return manifest.dump_list(item.model_copy(update={"kind": "weights", "sha256": None}) for item in parts)


def _is_file(entry: FileEntry, path: Path, sha256: str) -> bool:
    return Path(entry.path).name == path.name and entry.sha256 == sha256


def _released_as(sha256: str) -> Source | None:
    """The source of released files that were made of these weights."""
    for path in sorted(Path().glob(f"*_assets/*/{manifest.MANIFEST_NAME}")):
        source = manifest.read(Manifest, path).source
        if source.weights_sha256 == sha256:
            return source
    return None
