"""The learning rate of each network of a contest, found by short trainings at half the size and chosen on `val`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.studies.contest import Entry, is_trained, train
from benchmark.studies.networks import RUN_PREFIX, photos_per_epoch
from portraitseg import cli, manifest, tables
from portraitseg.data import open_dataset
from portraitseg.errors import InputError
from portraitseg.runs import Run

#: Height and width of every network are multiples of it, or of less.
_STRIDE = 32


@dataclass(frozen=True)
class Trial:
    """One short training; `val_iou` is a fraction, None where it came to no end.

    Attributes:
        images_seen: photos, repetitions counted.
        size: height × width.
    """

    network: str
    learning_rate: float
    images_seen: int
    size: str
    val_iou: float | None


def parse_rates(text: str) -> tuple[float, ...]:
    """Numbers between commas.

    Raises:
        InputError: not positive numbers, or one of them twice.
    """
    try:
        rates = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        rates = ()
    if not rates or any(not 0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
        raise InputError(f"--rates {text}: positive numbers between commas, each once: 1e-3,2e-3")
    return rates


def tune(
    entries: Sequence[Entry], rates: Sequence[float], images: int, location: Sequence[str], overwrite: bool, out: Path
) -> tuple[list[Entry], dict[str, str]]:
    """Trains each network briefly with each rate, and gives each the one with the best IoU on `val`.

    Half the height and width: a quarter of the time, and the order of the rates is what is asked for, not the scores.
    Trials are runs (`<run>-lr<rate>`), so a second call repeats none that came to its end. A trial that fails does not
    stop the others; neither does a network of which all fail.

    Args:
        entries: of `contest.plan`.
        rates: greatest learning rates to try.
        images: photos that each trial sees at least.
        location, overwrite: as in `contest.run_entries`.
        out: CSV of the trials, `Trial`.

    Returns:
        The networks with their rates, and name of the run → why there is none for it.
    """
    tuned, failures, trials = [], {}, []
    for entry in entries:
        photos = photos_per_epoch(entry.config, open_dataset(entry.config.data, entry.config.seed))
        epochs = math.ceil(images / photos)
        tried = [_trial(entry, rate, epochs, epochs * photos, location, overwrite) for rate in rates]
        trials += tried
        tables.write_csv(out, tables.names_of(Trial), trials)
        scored = [(trial.val_iou, trial.learning_rate) for trial in tried if trial.val_iou is not None]
        if not scored:
            failures[entry.run.name] = "no trial of --rates came to its end"
            continue
        best = max(scored)[1]
        cli.say(f"{entry.run.name}: learning rate {best:g} ({_listed(tried)})")
        if len(rates) > 2 and best in (min(rates), max(rates)):
            cli.warn(f"{entry.run.name}: {best:g} is at the end of --rates: give them again, and one beyond")
        tuned.append(entry.with_overrides(f"train.learning_rate={best!r}"))
    return tuned, failures


def _trial(entry: Entry, rate: float, epochs: int, images_seen: int, location: Sequence[str], overwrite: bool) -> Trial:
    size = [max(_STRIDE, side // 2 // _STRIDE * _STRIDE) for side in entry.config.model.size]
    short = entry.with_overrides(f"model.size={size}", f"train.epochs={epochs}", f"train.learning_rate={rate!r}")
    short = short.as_run(Run(f"{entry.run.name}-lr{rate:g}"))
    name = entry.run.name.removeprefix(RUN_PREFIX)
    trial = Trial(name, rate, images_seen, "×".join(map(str, size)), None)
    if not is_trained(short):
        cli.say(f"{name}: trying the learning rate {rate:g}")
        if code := train(short, location, overwrite):
            cli.warn(f"{short.run.name}: training ended with exit code {code}: this rate is left out")
            return trial
    stage = manifest.read(manifest.Artifact, short.run.artifact).stages["train"]
    return replace(trial, val_iou=float(stage["best_val_iou"]))


def _listed(trials: Sequence[Trial]) -> str:
    return ", ".join(
        f"{trial.learning_rate:g}: {'failed' if trial.val_iou is None else f'{100 * trial.val_iou:.2f}'}"
        for trial in trials
    )
