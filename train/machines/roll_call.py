"""Before a training of several machines: each answers the chief, and all bring the same."""

import errno
import hashlib
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from portraitseg import files
from portraitseg.data import Dataset
from portraitseg.data.base import hash_photos
from portraitseg.errors import InputError
from train.machines.cluster import Cluster
from train.machines.line import Line

#: A worker that has connected says who it is within this time, s.
_INTRODUCTION_S = 10.0

_REMEDIES = {
    "list of workers": "name the same WORKERS on all, in the same order",
    "code": "check out the same commit on all",
    "TensorFlow": "build the environment on all from the same lock",
    "configuration": "start all with the same CONFIG and SET",
    "photos": "give all the same DATA",
    "devices": "train with as many GPUs on each (--device)",
}


def facts(
    configuration: str, datasets_keys: Mapping[str, tuple[str, ...]], dataset: Dataset, devices: int
) -> dict[str, str]:
    """What has to be the same on all workers.

    Args:
        configuration: what the training is known by.
        datasets_keys: the keys of each split that is used.
        dataset: of all of them.
        devices: of this machine.
    """
    return {
        "code": _code(),
        "TensorFlow": version("tensorflow"),
        "configuration": configuration,
        "photos": _photos(datasets_keys, dataset),
        "devices": str(devices),
    }


def _code() -> str:
    root = Path(__file__).parents[2]
    sources = sorted(path for room in ("portraitseg", "train", "export") for path in (root / room).rglob("*.py"))
    lines = "".join(f"{files.sha256(path)} {path.relative_to(root)}\n" for path in sources)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _photos(keys: Mapping[str, tuple[str, ...]], dataset: Dataset) -> str:
    lines = "".join(f"{name} {hash_photos(dataset, members)}\n" for name, members in keys.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def call(cluster: Cluster, facts: Mapping[str, str], wait_s: float) -> dict[int, Line]:
    """The chief's side: waits for all others and compares what they bring.

    Returns:
        A connection to each of them, by its task.

    Raises:
        InputError: the port is taken, a worker did not come, or one brings something else; all that came are told.
    """
    lines: dict[int, Line] = {}
    until = time.monotonic() + wait_s
    try:
        with _listen(cluster) as listener:
            while len(lines) < len(cluster.workers) - 1:
                missing = ", ".join(cluster.name(task) for task in range(1, len(cluster.workers)) if task not in lines)
                listener.settimeout(max(0.0, until - time.monotonic()) or 0.001)
                try:
                    connection, _ = listener.accept()
                except TimeoutError as error:
                    raise InputError(
                        f"{missing} did not come within {wait_s:.0f} s: start the same command there with its TASK, or "
                        f"see whether it reaches {cluster.workers[0]}"
                    ) from error
                line = Line(connection)
                try:
                    message, _ = line.receive(_INTRODUCTION_S)
                    task, brought = message["task"], message["facts"]
                except (OSError, ValueError, KeyError):
                    # a port scanner, a health probe
                    line.close()
                    continue
                _compare(cluster, lines, task, brought, facts, line)
                lines[task] = line
    except InputError as error:
        for line in lines.values():
            _tell(line, "failed", str(error))
        raise
    for line in lines.values():
        _tell(line, "welcome")
    return lines


def _compare(
    cluster: Cluster, lines: Mapping[int, Line], task: Any, brought: Any, facts: Mapping[str, str], line: Line
) -> None:
    """Refuses a worker that is there already, or brings something else."""
    fault = None
    if not isinstance(task, int) or not 0 < task < len(cluster.workers) or not isinstance(brought, dict):
        fault = f"a worker calls itself TASK={str(task)[:20]}: there are {len(cluster.workers)}, and 0 is this one"
    elif task in lines:
        fault = f"two workers call themselves TASK={task}: give each its own number"
    else:
        for name, value in facts.items():
            if brought.get(name) != value:
                there = str(brought.get(name))[:200]
                fault = f"{cluster.name(task)} has another {name} ({there}; here {value}): {_REMEDIES[name]}"
                break
    if fault:
        _tell(line, "failed", fault)
        raise InputError(fault)


def _tell(line: Line, kind: str, why: str = "") -> None:
    # of one that is gone by now, `team` tells
    with suppress(OSError):
        line.send(kind, why=why)


def answer(cluster: Cluster, facts: Mapping[str, str], wait_s: float) -> Line:
    """A worker's side: finds the chief, says what it brings, waits for the others.

    Raises:
        InputError: the chief does not answer, or refuses somebody; or this worker's own port is taken.
    """
    _listen(cluster).close()
    until = time.monotonic() + wait_s
    host, port = _address(cluster.workers[0])
    chief = cluster.name(0)
    while True:
        try:
            line = Line(socket.create_connection((host, port), timeout=5))
            line.send("here", task=cluster.task, facts=dict(facts))
            # it may wait for others as long as we did for it
            message, _ = line.receive(max(1.0, until - time.monotonic()) + wait_s)
            break
        except (OSError, ValueError) as error:
            if time.monotonic() > until:
                raise InputError(
                    f"{chief} does not answer ({error}): start the same command there with TASK=0, or open its port"
                ) from error
            time.sleep(0.5)
    if message["kind"] != "welcome":
        raise InputError(f"{chief} refuses: {message.get('why')}")
    return line


def _listen(cluster: Cluster) -> socket.socket:
    """A socket on this worker's own port, which TensorFlow takes over later."""
    host, port = _address(cluster.workers[cluster.task])
    try:
        # on loopback nobody else is to come in; elsewhere the name may be one that only the others know
        return socket.create_server((host if host in ("localhost", "127.0.0.1") else "", port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"{cluster.name(cluster.task)}: port {port} of this machine is in use: end what uses it, or name "
                "another"
            ) from error
        raise InputError(f"{cluster.name(cluster.task)}: port {port}: {files.explain(error)}") from error


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
