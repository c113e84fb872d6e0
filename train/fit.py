"""The training loop of float and of quantization-aware training: resumes, stops cleanly, shows its progress."""

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from portraitseg import identity
from portraitseg.config import Config, ScheduleName
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import checkpoint
from train import state
from train.board import Board
from train.display import Display
from train.evaluate import KerasEvaluator
from train.machines.team import READING, Team, stopped
from train.optimize import Optimization, is_finite
from train.schedule import learning_rate
from train.state import Progress
from train.stream import Batch, BatchMaker, BatchStream

#: Steps whose mean is shown while an epoch runs.
_SHOWN_STEPS = 20


@dataclass(frozen=True)
class Plan:
    """What differs between float training and quantization-aware training.

    Attributes:
        epochs: over the training split; 0: what the model holds is evaluated and saved.
        learning_rate: greatest.
        freeze_bn_epochs: epochs at the end in which the statistics of batch norm stay as they are.
        init_sha256: of the weights that it starts from, if any.
        schedule: of the learning rate; None: as `train.schedule`.
        freeze_ranges_epochs: epochs at the end in which the observed ranges stay as they are.
        keeps_last: the last epoch is kept as the best, whatever its validation IoU: where the masks of the photos are
            not what is learnt, they tell nothing of it.
    """

    epochs: int
    learning_rate: float
    freeze_bn_epochs: int = 0
    init_sha256: str = ""
    schedule: ScheduleName | None = None
    freeze_ranges_epochs: int = 0
    keeps_last: bool = False


@dataclass(frozen=True)
class FitResult:
    """How a training ended; `best_iou` in [0, 1], epochs from 1 (0: there was none)."""

    best_iou: float
    best_epoch: int
    epochs: int


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; the state is on disk."""


def fit(
    optimization: Optimization,
    *,
    maker: BatchMaker,
    config: Config,
    plan: Plan,
    folder: Path,
    label: str,
    evaluate: Callable[[Any], float] | None = None,
    freeze_ranges: Callable[[Any], Sequence[Any]] | None = None,
    on_start: Callable[[], None] = lambda: None,
    remedy: str = "name another RUN, or pass --overwrite to begin anew",
    team: Team | None = None,
) -> FitResult:
    """Trains a model, or goes on where a stopped run left off.

    Writes into `folder`: best.h5 (best validation IoU; the last with `plan.keeps_last`), last.h5, epoch_NNN.h5 every
    `train.save_every` epochs, state.npz (to resume) and tensorboard/.

    Args:
        optimization: of a model of `models.build_for_training`, or of a QAT network. What is evaluated and saved is its
            mask alone; on return it holds the best weights.
        maker: of the batches; its dataset has `data.val_split` too.
        config: of both.
        plan: epochs and learning rate.
        folder: of this training.
        label: its name on the terminal.
        evaluate: model → validation IoU in [0, 1]; default: the Keras model's own.
        freeze_ranges: model → the variables that training no longer moves after this call; for
            `plan.freeze_ranges_epochs`.
        on_start: called once the folder is known to be this training's, before anything is written.
        remedy: where the folder holds another training, what the user can do.
        team: the machines that train together; the chief alone evaluates and writes. Default: this one.

    Raises:
        InputError: no split to validate on, photos that cannot be read, or a state of another training in `folder`.
        CheckFailed: a loss that is not finite; the last good state stays. Another machine that failed, with the state
            saved.
        Interrupted: after a signal, with the state saved.
    """
    val_keys = maker.dataset.keys(config.data.val_split)
    loop = _Loop(
        optimization=optimization,
        evaluate=evaluate or KerasEvaluator(maker.dataset, val_keys, config.model.size),
        maker=maker,
        config=config,
        plan=plan,
        folder=folder,
        label=label,
        examples=val_keys[: Board.PHOTOS],
        freeze_ranges=freeze_ranges,
        on_start=on_start,
        remedy=remedy,
        team=team or Team(),
    )
    return loop.run()


def fingerprint(model: Any, config: Config, plan: Plan, maker: BatchMaker) -> str:
    """What decides the course of a training; where the photos lie and how many workers read them do not."""
    facts = {
        "model": model.name,
        "plan": identity.used_fields(plan),
        "keys": maker.keys,
        "blank_keys": maker.blank_keys,
    }
    if maker.runs and not config.data.sets:
        # weights that shards have brought along
        facts["runs"] = maker.runs
    return identity.of_fit(config, facts)


@dataclass
class _Loop:
    optimization: Optimization
    evaluate: Callable[[Any], float]
    maker: BatchMaker
    config: Config
    plan: Plan
    folder: Path
    label: str
    examples: tuple[str, ...]
    freeze_ranges: Callable[[Any], Sequence[Any]] | None
    on_start: Callable[[], None]
    remedy: str
    team: Team

    def run(self) -> FitResult:
        progress = self._restore()
        total = self.plan.epochs * self.maker.steps_per_epoch
        if self.team.is_chief:
            self.on_start()
            self.folder.mkdir(parents=True, exist_ok=True)
        if progress.step < total:
            try:
                self._train(progress, total)
            except Exception as error:
                if (why := self.team.reason(error)) is None:
                    raise
                self.optimization.roll_back()
                self._save(progress)
                raise stopped(self.team, why, progress.step, total, self.folder) from error
        if not self.team.is_chief:
            return FitResult(progress.best_iou, progress.best_epoch, self.plan.epochs)
        if total == 0:
            self._keep(progress)
        checkpoint.load_weights(self.optimization.deployed, self.folder / "best.h5")
        return FitResult(progress.best_iou, progress.best_epoch, self.plan.epochs)

    def _keep(self, progress: Progress) -> None:
        """Saves what the model holds, as an epoch's end would."""
        model = self.optimization.deployed
        progress.best_iou = self.evaluate(model)
        for name in ("best.h5", "last.h5"):
            checkpoint.save(model, self.folder / name)
        self._save(progress)

    def _save(self, progress: Progress) -> None:
        if self.team.is_chief:
            state.save(self.folder, progress, self.optimization.arrays())

    def _restore(self) -> Progress:
        """What the chief's folder holds, or else what all begin with."""
        progress = self._read_state() if self.team.is_chief else None
        fresh = Progress(fingerprint(self.optimization.model, self.config, self.plan, self.maker))
        given, arrays = self.team.agree(progress or fresh, self.optimization.arrays)
        if arrays is not None:
            self.optimization.restore(arrays)
        return given

    def _read_state(self) -> Progress | None:
        expected = fingerprint(self.optimization.model, self.config, self.plan, self.maker)
        stored = state.load(self.folder)
        if stored is None:
            return None
        progress, arrays = stored
        if progress.fingerprint != expected:
            if identity.is_of_earlier_scheme(progress.fingerprint):
                raise InputError(
                    f"{self.folder} holds a training that an earlier version began, and whether it is this one cannot "
                    f"be told: finish it with that version, or {self.remedy}"
                )
            raise InputError(
                f"{self.folder} holds a training with another configuration or other photos: {self.remedy}"
            )
        self.optimization.restore(arrays)
        return progress

    def _train(self, progress: Progress, total: int) -> None:
        steps = self.maker.steps_per_epoch
        if self.plan.init_sha256 and progress.step == 0 and self.team.is_chief:
            # a training that only loses keeps what it began with
            self._keep(progress)
        self._freeze(progress.step, is_resumed=True)
        self.team.note("starts to read photos")
        stream = BatchStream(self.maker, progress.step, self.config.train.workers, self.team.check)
        display = Display(self.label, total, progress.step, progress.best_iou, is_silent=not self.team.is_chief)
        with _stop_signals() as stop, stream, self._open_board() as board, display:
            for batch in stream:
                self.team.note("trains")
                self._freeze(progress.step)
                progress.recent.append(self._step(batch, progress.step, total))
                progress.step += 1
                shown = [terms["loss"] for terms in progress.recent[-_SHOWN_STEPS:]]
                display.advance(progress.step, float(np.mean(shown)))
                if progress.step % steps == 0 and board is None:
                    # the chief looks at the epoch; the next step waits for it
                    progress.recent.clear()
                elif progress.step % steps == 0:
                    row = self._end_epoch(progress)
                    board.write(progress.step, row, self.optimization)
                    display.epoch(row, progress.best_iou)
                if stop.is_set and progress.step < total:
                    self._save(progress)
                    saved = f"state saved in {self.folder}" if self.team.is_chief else "worker 0 saves the state"
                    raise Interrupted(f"stopped after step {progress.step} of {total}, {saved}")
                if progress.step == total:
                    return
                self.team.note(READING)

    def _open_board(self) -> AbstractContextManager[Any]:
        """The chief's."""
        if not self.team.is_chief:
            return nullcontext()
        return Board(self.folder, self.maker.dataset, self.examples, self.config.model.size)

    def _freeze(self, step: int, is_resumed: bool = False) -> None:
        """Freezes what is due before step `step` (from 0); `is_resumed`: what was due before an earlier one."""
        plan, optimization = self.plan, self.optimization
        freezes = [(plan.freeze_bn_epochs, optimization.freeze_batch_norm)]
        if (freeze_ranges := self.freeze_ranges) is not None:
            freezes.append((plan.freeze_ranges_epochs, lambda: optimization.freeze_ranges(freeze_ranges)))
        for epochs, freeze in freezes:
            due = (plan.epochs - epochs) * self.maker.steps_per_epoch
            if epochs and (step > due if is_resumed else step == due):
                freeze()

    def _step(self, batch: Batch, step: int, total: int) -> dict[str, float]:
        train = self.config.train
        rate = learning_rate(
            step,
            total,
            self.plan.learning_rate,
            math.ceil(min(train.warmup_epochs * self.maker.steps_per_epoch, total / 10)),
            self.plan.schedule or train.schedule,
        )
        terms = self.optimization.step(batch, rate, step)
        if not is_finite(terms):
            figures = ", ".join(f"{name} {value:g}" for name, value in terms.items())
            raise CheckFailed(
                f"{self.label}: step {step + 1}: loss is not finite ({figures}); "
                f"what {self.folder} held before is untouched: lower the learning rate ({self.plan.learning_rate:g})"
            )
        return {**terms, "learning_rate": rate}

    def _end_epoch(self, progress: Progress) -> dict[str, float]:
        epoch = progress.step // self.maker.steps_per_epoch
        row = {name: float(np.mean([terms[name] for terms in progress.recent])) for name in progress.recent[0]}
        progress.recent.clear()
        model = self.optimization.deployed
        self.optimization.swap()
        try:
            row |= {"epoch": epoch, "val_iou": self.evaluate(model)}
            progress.history.append(row)
            if self.plan.keeps_last or row["val_iou"] > progress.best_iou:
                progress.best_iou, progress.best_epoch = row["val_iou"], epoch
                checkpoint.save(model, self.folder / "best.h5")
            if epoch % self.config.train.save_every == 0:
                checkpoint.save(model, self.folder / f"epoch_{epoch:03d}.h5")
            checkpoint.save(model, self.folder / "last.h5")
        finally:
            self.optimization.swap()
        # last: a kill before it repeats the epoch, and writes the same files again
        self._save(progress)
        return row


class _Stop:
    is_set = False


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """SIGINT and SIGTERM ask the loop to stop after the current step; a second one stops at once."""
    stop = _Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.is_set:
            raise KeyboardInterrupt
        stop.is_set = True
        signal.signal(number, ask)

    try:
        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        # not the main thread: whoever runs us there handles signals
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
