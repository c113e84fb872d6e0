"""Progress of training: a bar with IoU and time left on a terminal, a line an epoch elsewhere."""

import time
from collections.abc import Mapping

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from portraitseg.cli import console


class Display:
    """A context manager; `total` and `done` in steps, IoU in [0, 1]."""

    def __init__(self, label: str, total: int, done: int, best_iou: float, is_silent: bool = False) -> None:
        self._label = label
        self._total = total
        self._start = done
        self._best_iou = best_iou
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  best IoU {task.fields[iou]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=is_silent or not console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total, completed=done, loss=float("nan"), iou=_percent(best_iou))

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, step: int, loss: float) -> None:
        """Shows that `step` steps are done."""
        self._bar.update(self._task, completed=step, loss=loss)

    def epoch(self, row: Mapping[str, float], best_iou: float) -> None:
        """Shows the figures of an epoch."""
        self._bar.update(self._task, iou=_percent(best_iou))
        if not console.is_terminal:
            seconds = time.monotonic() - self._began
            done = self._bar.tasks[0].completed
            left = seconds / max(1, done - self._start) * (self._total - done)
            console.print(
                f"{self._label} epoch {row['epoch']:.0f}: loss {row['loss']:.4f}, IoU {_percent(row['val_iou'])} "
                f"(best {_percent(best_iou)}), {seconds / 60:.1f} min, {left / 60:.1f} min left"
            )


def _percent(iou: float) -> str:
    return "–" if iou < 0 else f"{100 * iou:.2f} %"
