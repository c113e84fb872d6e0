"""Several sets mixed, `data.sets`: keys are `<name>/<key of the set>`, and come in an epoch as often as weights say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from portraitseg.config import DataConfig, SetConfig
from portraitseg.data.base import Dataset, Sample
from portraitseg.data.shards import is_remote
from portraitseg.errors import InputError
from portraitseg.terms import Terms


@dataclass(frozen=True)
class MixedDataset(Dataset):
    """Several data sets in one.

    Attributes:
        members: name → the set.
    """

    members: Mapping[str, Dataset] = field(default_factory=dict, repr=False)

    @property
    def has_ignored(self) -> bool:
        """See `Dataset.has_ignored`."""
        return any(member.has_ignored for member in self.members.values())

    @property
    def was_read(self) -> bool:
        """See `Dataset.was_read`."""
        return all(member.was_read for member in self.members.values())

    def load(self, key: str) -> Sample:
        """See `Dataset.load`."""
        name, _, inner = key.partition("/")
        return replace(self.members[name].load(inner), key=key)

    def excerpt(self, keys: Sequence[str]) -> "MixedDataset":
        """See `Dataset.excerpt`."""
        of: dict[str, list[str]] = {}
        for key in keys:
            of.setdefault(key.partition("/")[0], []).append(key.partition("/")[2])
        return replace(self, splits={}, members={name: self.members[name].excerpt(kept) for name, kept in of.items()})

    def terms_of(self, name: str) -> Terms:
        """See `Dataset.terms_of`."""
        member, _, inner = name.partition("/")
        return self.members[member].terms_of(inner)


def open_mixed(config: DataConfig, open_one: Callable[[DataConfig], Dataset]) -> MixedDataset:
    """The splits of all sets together, those of one name as one; a set's `test` is `test_<name>`: scores stay apart.

    Raises:
        InputError: whatever is wrong with a set, with its name.
    """
    members = {item.name: _open(config, item, open_one) for item in config.sets}
    splits: dict[str, tuple[str, ...]] = {}
    for name, member in members.items():
        for split, keys in member.splits.items():
            merged = f"test_{name}" if split == "test" else split
            splits[merged] = splits.get(merged, ()) + tuple(f"{name}/{key}" for key in keys)
    counts = {name: len(member.splits.get(config.train_split, ())) for name, member in members.items()}
    shares = ", ".join(f"{item.name} {counts[item.name]} × {item.weight:g}" for item in config.sets)
    return MixedDataset(
        name=" + ".join(members),
        splits=splits,
        warnings=tuple(f"set {name}: {line}" for name, member in members.items() for line in member.warnings),
        remarks=(
            f"an epoch of {config.train_split} has {shares}",
            *(f"set {name}: {line}" for name, member in members.items() for line in member.remarks),
        ),
        members=members,
        weights={item.name: item.weight for item in config.sets},
    )


def _open(config: DataConfig, item: SetConfig, open_one: Callable[[DataConfig], Dataset]) -> Dataset:
    root = item.root
    if config.root is not None and root is not None and not is_remote(str(root)):
        root = config.root / root
    settings = {name: getattr(item, name) for name in SetConfig.model_fields if name in DataConfig.model_fields}
    try:
        opened = open_one(config.model_copy(update={**settings, "root": root, "sets": ()}))
    except InputError as error:
        raise InputError(f"set {item.name}: {error}") from error
    if opened.weights:
        raise InputError(
            f"set {item.name}: {root} was packed of several sets that have weights of their own: pack it without them, "
            "or train on it alone (data.root)"
        )
    return opened
