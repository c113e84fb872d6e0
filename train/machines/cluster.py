"""Which of several machines this one is: WORKERS and TASK, or TF_CONFIG as TensorFlow's own tools set it."""

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from portraitseg.errors import InputError

_ADDRESS = re.compile(r"(?P<host>[^\s:,/\[\]]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")

_FORM = "write --workers host1:port,host2:port, the same on all machines, and --task 0, 1, … (make: WORKERS= TASK=)"


@dataclass(frozen=True)
class Cluster:
    """One of several machines; the first is the chief, which alone writes.

    Attributes:
        workers: host:port of each, the same list on all of them.
        task: which of them this is, from 0.
    """

    workers: tuple[str, ...]
    task: int

    @property
    def is_chief(self) -> bool:
        return self.task == 0

    def name(self, task: int) -> str:
        """What messages call a worker."""
        return f"worker {task} ({self.workers[task]})"


def cluster_of(workers: str | None, task: int | None) -> Cluster | None:
    """The machines that the options, or else TF_CONFIG, give; None: a machine that trains alone.

    Raises:
        InputError: an address that is none, one twice, a task that is none of them, or a TF_CONFIG that cannot be used.
    """
    if workers is None:
        if task is not None:
            raise InputError(f"--task {task}: of which workers? {_FORM}")
        return _of_environment(os.environ.get("TF_CONFIG"))
    addresses = tuple(word.strip() for word in workers.split(",") if word.strip())
    if task is None and len(addresses) > 1:
        raise InputError(f"--workers {workers}: which of them is this machine? {_FORM}")
    return _cluster(addresses, task or 0, "--workers")


def _of_environment(text: str | None) -> Cluster | None:
    if not text:
        return None
    try:
        values = json.loads(text)
        cluster, own = values.get("cluster", {}), values.get("task", {})
        kind, index = own.get("type", "worker"), int(own.get("index", 0))
        jobs: dict[str, list[Any]] = {name: list(addresses) for name, addresses in cluster.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"TF_CONFIG: not what TensorFlow's tools write ({error}): correct it, or unset it") from error
    if others := set(jobs) - {"chief", "worker"}:
        raise InputError(f"TF_CONFIG: cluster has {', '.join(sorted(others))}: chief and worker alone can be used")
    if not jobs:
        return None
    chiefs = jobs.get("chief", [])
    if kind not in jobs or not 0 <= index < len(jobs[kind]):
        raise InputError(f"TF_CONFIG: task {kind} {index} is not in its cluster: correct it there")
    addresses = tuple(str(address) for address in (*chiefs, *jobs.get("worker", [])))
    return _cluster(addresses, index + (len(chiefs) if kind == "worker" else 0), "TF_CONFIG")


def _cluster(addresses: tuple[str, ...], task: int, origin: str) -> Cluster | None:
    for address in addresses:
        found = _ADDRESS.fullmatch(address)
        if not found or not 0 < int(found["port"]) < 65536:
            raise InputError(f"{origin}: '{address[:80]}' is not host:port: {_FORM}")
    if len(set(addresses)) < len(addresses):
        twice = next(address for address in addresses if addresses.count(address) > 1)
        raise InputError(f"{origin}: {twice} is there twice: each worker needs an address of its own")
    if not 0 <= task < len(addresses):
        raise InputError(f"--task {task}: there are {len(addresses)} workers, 0 to {len(addresses) - 1}")
    # a list of one is a machine alone
    return Cluster(addresses, task) if len(addresses) > 1 else None
