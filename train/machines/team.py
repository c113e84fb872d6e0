"""Who trains together, and what becomes of the others when one of them fails.

Before TensorFlow connects the workers, they answer to a roll call: other code, photos or settings are named there. The
connections stay open. Over them the chief hands the state out, and each worker says every other second that it lives
and what it does, so that whoever dies, hangs or is stopped is known by name, which TensorFlow cannot tell.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg.cli import say
from portraitseg.errors import CheckFailed, InputError
from train import state
from train.machines.cluster import Cluster
from train.machines.line import Line
from train.machines.roll_call import answer, call
from train.state import Progress
from train.stream import Share

Arrays = Mapping[str, list[np.ndarray]]

#: What a worker does while it waits for its share of a batch.
READING = "reads photos"

#: Between two signs of life.
BEAT_S = 2.0

#: Without one for so long, a worker hangs: its host, its network or the process as a whole.
QUIET_S = 20.0

#: A worker whose next batch is not there after so long hangs on its photos: all others wait for it.
READING_S = 45.0


class Broken(Exception):
    """Another worker failed: its name and why."""


class Team:
    """One machine that trains alone; what several need does nothing here."""

    is_chief = True
    task = 0

    def __enter__(self) -> "Team":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        del kind, error, trace

    def connect(self) -> Any:
        """TensorFlow's strategy of all workers; None: one machine's own devices are all."""
        return None

    def share(self, devices: int) -> Share:
        """The share of each batch that this machine makes, which has so many devices."""
        del devices
        return Share()

    def agree(self, progress: Progress, arrays: Callable[[], Arrays]) -> tuple[Progress, Arrays | None]:
        """What all begin with, the chief's; no arrays for who has them."""
        del arrays
        return progress, None

    def note(self, doing: str) -> None:
        """Says what this worker begins to do."""
        del doing

    def check(self) -> None:
        """Raises where another worker has failed.

        Raises:
            Broken: so it is.
        """

    def reason(self, error: BaseException) -> str | None:
        """Why a step failed, where another worker is to blame."""
        del error
        return None


@dataclass
class _Doing:
    what: str = "starts"
    since: float = 0.0


class Workers(Team):
    """Several machines; a context manager."""

    def __init__(self, cluster: Cluster, facts: Mapping[str, str], wait_s: float) -> None:
        """Calls the roll, or answers to it.

        Args:
            cluster: of this machine.
            facts: what has to be the same on all: name → what stands for it.
            wait_s: for workers that have not come yet.

        Raises:
            InputError: a port that is taken, a worker that does not come or is another one.
        """
        self.cluster, self.task, self.is_chief = cluster, cluster.task, cluster.is_chief
        self._broken: str | None = None
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._doing = _Doing(since=time.monotonic())
        self._states: queue.Queue[bytes] = queue.Queue()
        facts = {"list of workers": ",".join(cluster.workers), **facts}
        self._lines: dict[int, Line] = (
            call(cluster, facts, wait_s) if self.is_chief else {0: answer(cluster, facts, wait_s)}
        )
        self._listeners = [
            threading.Thread(target=self._listen, args=(task, line), daemon=True) for task, line in self._lines.items()
        ]
        for listener in self._listeners:
            listener.start()
        threading.Thread(target=self._beat, daemon=True).start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Tells the others how it ended here; nobody is to wait for one who is gone."""
        if error is None:
            self._tell("done")
            # TensorFlow takes a worker that leaves before the chief for one that has crashed
            for listener in self._listeners:
                listener.join()
        self._is_over.set()
        if error is None:
            return
        if isinstance(error, KeyboardInterrupt):
            self._tell("failed", why=f"{self.cluster.name(self.task)} was stopped")
        else:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._tell("failed", why=self._broken or f"{self.cluster.name(self.task)}: {told}")

    def connect(self) -> Any:
        from portraitseg.models.keras_route import tf

        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(self.cluster.workers)}),
            task_type="worker",
            task_id=self.task,
            rpc_layer="grpc",
        )
        self.note("connects")
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        if self.is_chief:
            say(f"{len(self.cluster.workers)} workers: {', '.join(self.cluster.workers)}")
        return strategy

    def share(self, devices: int) -> Share:
        return Share(self.task * devices, (self.task + 1) * devices, len(self.cluster.workers) * devices)

    def agree(self, progress: Progress, arrays: Callable[[], Arrays]) -> tuple[Progress, Arrays | None]:
        if self.is_chief:
            self._tell("state", state.to_bytes(progress, arrays()))
            return progress, None
        self.note("waits for the chief")
        while True:
            self.check()
            try:
                return state.of_bytes(self._states.get(timeout=1))
            except queue.Empty:
                continue

    def note(self, doing: str) -> None:
        self._doing = _Doing(doing, time.monotonic())

    def check(self) -> None:
        if self._broken:
            raise Broken(self._broken)

    def reason(self, error: BaseException) -> str | None:
        if isinstance(error, Broken):
            return str(error)
        if isinstance(error, (InputError, CheckFailed)) or not type(error).__module__.startswith("tensorflow."):
            return None
        # TensorFlow may notice first, and does not know whom
        until = time.monotonic() + QUIET_S + BEAT_S
        while self._broken is None and time.monotonic() < until:
            time.sleep(0.1)
        return self._broken

    def _beat(self) -> None:
        while not self._is_over.wait(BEAT_S):
            doing = self._doing
            self._tell("beat", doing=doing.what, for_s=time.monotonic() - doing.since)

    def _listen(self, task: int, line: Line) -> None:
        name = self.cluster.name(task)
        try:
            while True:
                message, content = line.receive(QUIET_S)
                kind = message["kind"]
                if kind == "state":
                    self._states.put(content)
                elif kind == "failed":
                    return self._break(str(message["why"]))
                elif kind == "done":
                    return None
                elif message["doing"] == READING and message["for_s"] > READING_S:
                    return self._break(f"{name} hangs: it has been reading its photos for {message['for_s']:.0f} s")
        except TimeoutError:
            self._break(f"{name} has not answered for {QUIET_S:.0f} s: its host or its network hangs")
        except (OSError, ValueError, KeyError):
            self._break(f"{name} has ended without a word: was it killed, or out of memory?")

    def _break(self, why: str) -> None:
        """What one has seen all are told; whoever waits in a step is let go."""
        with self._lock:
            if self._broken is not None or self._is_over.is_set():
                return
            self._broken = why
        self._tell("failed", why=why)
        # the C++ of a step that waits for others; the public API has no way to end it
        if (running := sys.modules.get("tensorflow.python.eager.context")) and running.context()._initialized:
            running.context().abort_collective_ops(14, why)  # UNAVAILABLE

    def _tell(self, kind: str, content: bytes = b"", **message: Any) -> None:
        for line in self._lines.values():
            # of one that is gone, its listener tells
            with suppress(OSError):
                line.send(kind, content, **message)


def stopped(team: Team, why: str, step: int, total: int, folder: Path) -> CheckFailed:
    """What is raised once the state is saved."""
    saved = f"state saved in {folder}" if team.is_chief else "the state is with worker 0"
    return CheckFailed(
        f"{why}; stopped after step {step} of {total}, {saved}: the same command on all workers, or with another list "
        "of them, goes on"
    )
