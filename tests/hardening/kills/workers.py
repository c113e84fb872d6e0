"""`python -m tests.hardening.kills.workers --kills 20 --work FOLDER`: kills one of two workers, again and again.

Half of the kills come at a random moment of the whole command, half at one of its steps. Then the same command is given
on both, which is the next victim; what a few kills left is finished and compared with a training that nobody disturbed.
Writes `FOLDER/workers.json`. Exit 1: a state was lost, somebody waited for who was gone, or the weights differ.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.train.machines import processes

#: Enough steps for kills to fall into.
_MORE = ("--set", "train.epochs=8")

#: Both come together, on a core that others may use.
_WAIT_S = 60.0

#: The other one names who is gone within a minute; what it does after that (saving, ending) is short.
_ENDS_WITHIN_S = 60.0

_KILLS_A_CHAIN = 3


@dataclass
class Result:
    """The counts are of kills.

    Attributes:
        of_the_chief: kills of worker 0, which alone writes.
        in_a_step: with a state on disk already, so that steps were being made; `after_the_last`: all were made.
        steps_kept: that stood in the state after each kill.
        lost: states that were there before a kill and not after it, or with fewer steps; a line each.
        faults: what the other one did that it must not: went on, waited, or ended without the one line.
        seconds: how long the other one took to end.
        finished: trainings that were finished after kills; `greatest_difference`: of their weights from undisturbed.
    """

    kills: int = 0
    of_the_chief: int = 0
    in_a_step: int = 0
    after_the_last: int = 0
    finished: int = 0
    greatest_difference: float = 0.0
    steps_kept: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Campaign:
    """In a folder with photos, and a training of two that nobody disturbed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.result, self.random = folder, Result(), random.Random(seed)
        if not (folder / "DATA").exists():
            processes.make_photos(folder)
        began = time.monotonic()
        started = processes.start(folder, "undisturbed", 2, more=_MORE)
        self.first_s = self._until_a_step("undisturbed", started) - began
        processes.end(started)
        self.whole_s = time.monotonic() - began

    def run(self, kills: int) -> None:
        """Kills, and finishes what every few left."""
        chain = 0
        while self.result.kills < kills:
            name = f"killed_{chain}"
            chain += 1
            until = min(kills, self.result.kills + _KILLS_A_CHAIN)
            while self.result.kills < until and self._kill(name):
                self.show()
            processes.run(self.folder, name, 2, more=_MORE)
            self.result.finished += 1
            difference = processes.difference(self.folder, "undisturbed", name)
            self.result.greatest_difference = max(self.result.greatest_difference, difference)
            self.show()

    def _kill(self, name: str) -> bool:
        """Starts two workers and kills one; False: they had ended before that."""
        result, before = self.result, processes.step(self.folder, name)
        victim, is_in_steps = self.random.randrange(2), bool(result.kills % 2)
        share = self.random.random()
        started = processes.start(self.folder, name, 2, wait_s=_WAIT_S, more=_MORE)
        if is_in_steps:
            self._until_a_step(name, started)
            time.sleep(share * (self.whole_s - self.first_s))
        else:
            time.sleep(share * self.whole_s)
        if any(process.poll() is not None for process in started):
            processes.end(started)
            return False
        before = max(before, processes.step(self.folder, name))
        os.killpg(started[victim].pid, signal.SIGKILL)
        began = time.monotonic()
        result.kills += 1
        result.of_the_chief += victim == 0
        result.in_a_step += before > 0
        self._look_at_the_other(name, started[1 - victim], began)
        started[victim].communicate()
        result.seconds.append(round(time.monotonic() - began, 1))
        try:
            after = processes.step(self.folder, name)
        except Exception as error:
            # whatever a reader raises: the state is not whole
            result.lost.append(f"kill {result.kills}: {error}")
            after = before
        result.steps_kept.append(after)
        if after < before:
            result.lost.append(f"kill {result.kills}: {before} steps before it, {after} after it")
        return True

    def _look_at_the_other(self, name: str, other: "subprocess.Popen[str]", began: float) -> None:
        try:
            text = other.communicate(timeout=_WAIT_S + _ENDS_WITHIN_S)[1]
        except subprocess.TimeoutExpired:
            os.killpg(other.pid, signal.SIGKILL)
            self.result.faults.append(f"kill {self.result.kills}: the other one waits: {other.communicate()[1][-500:]}")
            return
        if other.returncode == 0 and processes.step(self.folder, name) == processes.step(self.folder, "undisturbed"):
            # all steps were done by then
            self.result.after_the_last += 1
            return
        lines = [line for line in text.splitlines() if line.startswith("error: worker ")]
        # before the roll was called nobody is known: it waits as for one who has not been started yet
        is_waiting = "did not come" in text or "does not answer" in text
        is_late = not is_waiting and time.monotonic() - began > _ENDS_WITHIN_S
        if other.returncode not in (1, 2) or len(lines) != 1 or "Traceback" in text or is_late:
            self.result.faults.append(f"kill {self.result.kills}: exit {other.returncode}: {text[-500:]}")

    def _until_a_step(self, name: str, started: "list[subprocess.Popen[str]]") -> float:
        """Waits for a state of more steps than there are; or for the end."""
        before = processes.step(self.folder, name)
        while processes.step(self.folder, name) == before and started[0].poll() is None:
            time.sleep(0.1)
        return time.monotonic()

    def show(self) -> None:
        """Writes what is known so far."""
        result = self.result
        (self.folder / "workers.json").write_text(json.dumps(asdict(result), indent=2))
        print(
            f"{result.kills} kills ({result.of_the_chief} of the chief), {len(result.lost)} states lost, "
            f"{len(result.faults)} faults, {result.finished} finished, greatest difference "
            f"{result.greatest_difference:.1e}",
            flush=True,
        )


def main() -> None:
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(arguments.work.resolve(), arguments.seed)
    campaign.run(arguments.kills)
    if campaign.result.lost or campaign.result.faults or campaign.result.greatest_difference > processes.BOUND:
        sys.exit(f"error: {campaign.result.lost + campaign.result.faults or 'the weights differ'}")


if __name__ == "__main__":
    main()
