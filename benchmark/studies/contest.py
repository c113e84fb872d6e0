"""Trains several networks on the same photos and the same number of them, and exports each: stage by stage, resumable.

The stages run as processes of their own, as a user would type them; what crosses between them is files.
"""

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.studies.networks import RECIPES, RUN_PREFIX, photos_per_epoch
from portraitseg import cli, files, identity, manifest
from portraitseg.config import Config, data_overrides, load_config
from portraitseg.data import open_dataset
from portraitseg.errors import InputError
from portraitseg.runs import Run

CONFIGS = Path("train/configs")

#: Quantization-aware training sees this share of the photos of float training; a quarter to a fifth of its steps, at a
#: low learning rate, is the usual schedule.
QAT_SHARE = 0.2

#: Ends the name of a variant whose width is that many hundredths.
_WIDTH = re.compile(r"_w\d{3}$")


@dataclass(frozen=True)
class Entry:
    """One network of the contest.

    Attributes:
        run: `compare-<name of the configuration>`.
        toml: its configuration.
        config: resolved, with data and epochs of the contest.
        overrides: `--set` of training.
        qat_overrides: `--set` of the export.
        data: overrides that name the photos; on the command line they are `--data` and `--format`.
    """

    run: Run
    toml: Path
    config: Config
    overrides: tuple[str, ...]
    qat_overrides: tuple[str, ...]
    data: tuple[str, ...] = ()

    def with_overrides(self, *overrides: str) -> "Entry":
        """The same with further `--set`; later ones win."""
        every = (*self.overrides, *overrides)
        return replace(self, overrides=every, config=load_config(self.toml, [*self.data, *every]))

    def as_run(self, run: Run) -> "Entry":
        """The same under another name."""
        return replace(self, run=run)


def plan(
    models: Sequence[str], images: int, data: Path | None, data_format: str | None, overrides: Sequence[str]
) -> list[Entry]:
    """What is to be trained, and for how many epochs.

    Args:
        models: names of configurations in train/configs, of narrower variants of theirs (`<name>_w050`), or paths of
            .toml files.
        images: photos that float training sees at least, repetitions counted; whole epochs, so a few more.
        data, data_format: `--data` and `--format`.
        overrides: further `--set` for all of them.

    Raises:
        InputError: no such configuration, one name twice, other training photos than the first network's.
    """
    entries: list[Entry] = []
    hashes: dict[str, str] = {}
    for name in models:
        toml, variant = _find_config(name)
        every = (*overrides, *variant)
        photos = tuple(data_overrides(toml, data, data_format))
        config = load_config(toml, [*photos, *every])
        dataset = open_dataset(config.data, config.seed)
        split = config.data.train_split
        stem = name if variant else toml.stem
        hashes[stem] = dataset.split_hash(split)
        epochs = math.ceil(images / photos_per_epoch(config, dataset))
        qat_epochs = max(1, round(QAT_SHARE * epochs))
        assigned = (*every, f"train.epochs={epochs}")
        share = (f"qat.epochs={qat_epochs}", f"qat.freeze_bn_epochs={qat_epochs // 3}")
        settings = load_config(toml, [*photos, *share, *every]).qat.model_dump(mode="json")
        # each of them: the export would take from the run what an earlier contest set
        qat = tuple(f"qat.{name}={json.dumps(value)}" for name, value in settings.items())
        # what the table compares, and no file more
        qat = (*qat, f"export.recipes={json.dumps(RECIPES)}")
        config = load_config(toml, [*photos, *assigned])
        entries.append(Entry(Run(f"{RUN_PREFIX}{stem}"), toml, config, assigned, qat, photos))
    if len({entry.run.name for entry in entries}) < len(entries):
        raise InputError("--models: a name is there twice: runs are named after the configurations")
    if len(set(hashes.values())) > 1:
        listed = ", ".join(f"{name} {sha256_16}" for name, sha256_16 in hashes.items())
        raise InputError(f"--models: they train on different photos ({listed}): a comparison needs the same for all")
    return entries


def run_entries(entries: Sequence[Entry], location: Sequence[str], overwrite: bool = False) -> dict[str, str]:
    """Trains and exports what is not finished; a network that fails does not stop the others.

    Args:
        entries: of `plan`.
        location: `--data`, `--format` of the stages, as typed.
        overwrite: train anew where a run holds another training.

    Returns:
        Name of the run → what failed; empty where all went well.

    Raises:
        KeyboardInterrupt: after the running stage has saved its state.
    """
    failures: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        name = entry.run.name
        cli.say(f"{number} of {len(entries)}: {name}")
        if is_trained(entry):
            cli.say(f"{name}: trained already")
        elif code := train(entry, location, overwrite):
            failures[name] = f"training ended with exit code {code}"
            continue
        if is_exported(entry):
            cli.say(f"{name}: exported already")
        elif code := _stage(["export", "android", "--run", name, *location, *_sets(entry.qat_overrides)]):
            # one file that fails its gate does not spoil the others
            if not is_exported(entry):
                failures[name] = f"export ended with exit code {code} and without {' and '.join(RECIPES)}"
            else:
                cli.warn(f"{name}: export ended with exit code {code}; the compared files passed")
    return failures


def train(entry: Entry, location: Sequence[str], overwrite: bool) -> int:
    """Trains one, or goes on with it.

    Returns:
        The exit code of `python -m train`.

    Raises:
        KeyboardInterrupt: Ctrl-C, once the state is saved.
    """
    return _stage(["train", "fit", *_fit_arguments(entry, location, overwrite)])


def is_trained(entry: Entry) -> bool:
    """True where the run holds finished weights of this very configuration."""
    run = entry.run
    if not (run.artifact.exists() and run.best.exists() and run.config.exists()):
        return False
    record = manifest.read(manifest.Artifact, run.artifact)
    return (
        _is_training_of(run, entry.config)
        and record.stages.get("train", {}).get("epochs") == entry.config.train.epochs
        and record.source.weights_sha256 == files.sha256(run.best)
    )


def is_exported(entry: Entry) -> bool:
    """True where the files that are compared lie there whole, made of the run's weights with this QAT."""
    path = entry.run.android / manifest.MANIFEST_NAME
    if not path.exists() or not entry.run.artifact.exists():
        return False
    artifact, made = manifest.read(manifest.Artifact, entry.run.artifact), manifest.read(manifest.Manifest, path)
    if made.source.weights_sha256 != artifact.source.weights_sha256:
        return False
    settings = load_config(entry.toml, [*entry.data, *entry.qat_overrides])
    if artifact.stages.get("qat", {}).get("settings") != settings.qat.model_dump(mode="json"):
        return False
    exported = {entry.recipe: entry for entry in made.files if entry.channels == "rgb" and entry.recipe in RECIPES}
    return len(exported) == len(RECIPES) and all(
        (path.parent / item.path).is_file() and files.sha256(path.parent / item.path) == item.sha256
        for item in exported.values()
    )


def _find_config(name: str) -> tuple[Path, tuple[str, ...]]:
    """The .toml of a network, and the override that makes a variant of it."""
    toml = Path(name) if name.endswith(".toml") else CONFIGS / f"{name}.toml"
    if toml.is_file():
        return toml, ()
    parent = CONFIGS / f"{_WIDTH.sub('', name)}.toml"
    if _WIDTH.search(name) and parent.is_file():
        return parent, (f'model.name="{name}"',)
    known = ", ".join(path.stem for path in sorted(CONFIGS.glob("*.toml")))
    raise InputError(f"--models {name}: no {toml} (there are: {known or 'none'})")


def _is_training_of(run: Run, config: Config) -> bool:
    """Whether the run's training, finished or not, is that of the configuration, teachers included."""
    if not run.identity.exists():
        return False
    return bool(json.loads(run.identity.read_text(encoding="utf-8")).get("training") == identity.of_training(config))


def _fit_arguments(entry: Entry, location: Sequence[str], overwrite: bool) -> list[str]:
    arguments = ["--run", entry.run.name, "--config", str(entry.toml), *location, *_sets(entry.overrides)]
    has_another = entry.run.config.exists() and not _is_training_of(entry.run, entry.config)
    return [*arguments, "--overwrite"] if overwrite and has_another else arguments


def _sets(overrides: Sequence[str]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def _stage(arguments: Sequence[str]) -> int:
    """Runs `python -m <stage> …` to its end, with its output where ours goes.

    Raises:
        KeyboardInterrupt: Ctrl-C, once the stage has saved its state and ended.
    """
    process = subprocess.Popen([sys.executable, "-m", *arguments])
    try:
        return process.wait()
    except KeyboardInterrupt:
        # the terminal has told the stage too
        process.wait()
        raise KeyboardInterrupt("what is trained and exported is kept") from None
