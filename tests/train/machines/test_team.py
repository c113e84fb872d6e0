"""The roll call, and workers that fail: each is named, and nobody waits for who is gone."""

import socket
import threading
import time

import numpy as np
import pytest

from portraitseg.data import Sample
from portraitseg.errors import CheckFailed, InputError
from tests.train.noise import Noise, noise
from train.machines import roll_call, team
from train.machines.cluster import Cluster
from train.machines.line import Line
from train.machines.team import Broken, Workers
from train.machines.together import Together
from train.state import Progress

FACTS = {"code": "1", "configuration": "2", "photos": "3"}


def _ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return tuple(f"127.0.0.1:{port}" for port in ports)


def _together(workers, facts, wait_s=5.0):
    """What each worker becomes: a `Workers`, or the error that it ends with."""
    outcomes = [None] * len(facts)

    def join(task):
        try:
            outcomes[task] = Workers(Cluster(workers, task), facts[task], wait_s)
        except InputError as error:
            outcomes[task] = error

    threads = [threading.Thread(target=join, args=(task,)) for task in range(len(facts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _until(broken, seconds=10.0):
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        try:
            broken.check()
        except Broken as error:
            return str(error)
        time.sleep(0.02)
    return None


@pytest.fixture
def three(monkeypatch):
    monkeypatch.setattr(team, "BEAT_S", 0.1)
    monkeypatch.setattr(team, "QUIET_S", 1.0)
    monkeypatch.setattr(team, "READING_S", 0.5)
    workers = _ports(3)
    joined = _together(workers, [FACTS] * 3)
    assert all(isinstance(item, Workers) for item in joined), joined
    yield workers, joined
    for item in joined:
        item._is_over.set()
        for line in item._lines.values():
            line.close()


@pytest.mark.parametrize("name", FACTS)
def test_a_worker_that_brings_something_else_is_named(name):
    workers = _ports(3)
    told = _together(workers, [FACTS, FACTS, {**FACTS, name: "other"}])
    # one that comes later finds nobody there
    for line in map(str, (told[0], told[2])):
        assert f"worker 2 ({workers[2]}) has another {name} (other; here {FACTS[name]}): " in line


def test_who_does_not_come_is_named():
    workers = _ports(3)
    told = _together(workers, [FACTS, FACTS], wait_s=2.0)
    assert str(told[0]).startswith(f"worker 2 ({workers[2]}) did not come within")
    assert "worker 2" in str(told[1])
    with pytest.raises(InputError, match=rf"worker 0 \({workers[0]}\) does not answer"):
        Workers(Cluster(workers, 1), FACTS, 0.2)


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        workers = (f"127.0.0.1:{taken.getsockname()[1]}", *_ports(1))
        with pytest.raises(InputError, match=r"worker 0 .*port \d+ of this machine is in use"):
            Workers(Cluster(workers, 0), FACTS, 1.0)
        with pytest.raises(InputError, match=r"worker 1 .*port \d+ of this machine is in use"):
            Workers(Cluster(workers[::-1], 1), FACTS, 1.0)


def test_strangers_at_the_port_do_no_harm():
    workers = _ports(2)
    host, _, port = workers[0].rpartition(":")

    def knock():
        for content in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b""):
            while True:
                try:
                    with socket.create_connection((host, int(port)), timeout=5) as stranger:
                        stranger.sendall(content)
                    break
                except OSError:
                    time.sleep(0.01)

    thread = threading.Thread(target=knock)
    thread.start()
    time.sleep(0.1)
    chief = threading.Thread(target=lambda: result.append(Workers(Cluster(workers, 0), FACTS, 10.0)))
    result = []
    chief.start()
    thread.join()
    worker = Workers(Cluster(workers, 1), FACTS, 10.0)
    chief.join()
    assert isinstance(result[0], Workers)
    for item in (worker, result[0]):
        item._is_over.set()
        item._lines[1 if item.is_chief else 0].close()


def test_two_of_one_number_are_told():
    workers = _ports(3)
    outcomes = []

    def join(task):
        try:
            outcomes.append(Workers(Cluster(workers, task), FACTS, 2.0))
        except InputError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=join, args=(task,)) for task in (0, 1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = " ".join(map(str, outcomes))
    # on one machine the second one finds its port free until TensorFlow takes it
    assert "two workers call themselves TASK=1" in told or "is in use" in told


def test_the_chiefs_state_reaches_all(three):
    _, joined = three
    progress, arrays = Progress("f", step=3, best_iou=0.5), {"weights": [np.arange(3.0), np.array(2)]}
    assert joined[0].agree(progress, lambda: arrays) == (progress, None)
    for worker in joined[1:]:
        given, received = worker.agree(Progress("other"), lambda: pytest.fail("asked"))
        assert given == progress
        np.testing.assert_array_equal(received["weights"][0], arrays["weights"][0])


def test_a_worker_that_dies_is_named_to_all(three):
    workers, joined = three
    # as the kernel does for a process that was killed
    joined[1]._is_over.set()
    joined[1]._lines[0]._socket.shutdown(socket.SHUT_RDWR)
    for other in (joined[0], joined[2]):
        assert _until(other) == f"worker 1 ({workers[1]}) has ended without a word: was it killed, or out of memory?"
        assert other.reason(Broken("why")) == "why"


def test_a_worker_that_hangs_is_named_to_all(three):
    workers, joined = three
    # no sign of life, though its connection stands: a stopped process, a network that is gone
    joined[2]._is_over.set()
    for other in joined[:2]:
        assert _until(other).startswith(f"worker 2 ({workers[2]}) has not answered for 1 s")


def test_a_worker_that_hangs_on_its_photos_is_named_to_all(three):
    workers, joined = three
    joined[1].note(team.READING)
    assert "hangs: it has been reading its photos for" in _until(joined[2])
    assert f"worker 1 ({workers[1]})" in _until(joined[0])


def test_who_works_long_does_not_hang(three):
    joined = three[1]
    joined[0].note("trains")
    time.sleep(0.8)
    for item in joined:
        item.check()


@pytest.mark.parametrize(
    ("error", "told"),
    [(InputError("photo 'a/b' is torn"), ": photo 'a/b' is torn"), (KeyboardInterrupt(), " was stopped")],
)
def test_how_a_worker_ended_is_told_to_all(three, error, told):
    workers, joined = three
    joined[1].__exit__(type(error), error, None)
    for other in (joined[0], joined[2]):
        assert _until(other) == f"worker 1 ({workers[1]}){told}"
    # an error of one's own is not another's fault
    assert joined[0].reason(InputError("mine")) is None


def test_a_message_that_is_too_long_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends = (socket.create_connection(server.getsockname()), server.accept()[0])
    lines = [Line(end) for end in ends]
    ends[0].sendall((2_000_000).to_bytes(4) + bytes(8))
    with pytest.raises(ValueError, match="no message"):
        lines[1].receive(1.0)
    lines[0].send("beat", b"content", doing="x")
    for end in ends:
        end.close()


def test_facts_see_pixels_and_names():
    dataset = noise()
    keys = dict(dataset.splits)
    first = roll_call._photos(keys, dataset)
    assert roll_call._photos(keys, noise()) == first
    assert roll_call._photos({**keys, "train": keys["train"][1:]}, dataset) != first

    class Mirrored(Noise):
        def load(self, key):
            sample = super().load(key)
            return Sample(key, sample.image[::-1], sample.mask)

    assert roll_call._photos(keys, Mirrored(dataset.name, dataset.splits)) != first


def test_who_goes_while_a_network_is_built_is_named_in_one_line():
    class Left(team.Team):
        def reason(self, error):
            return "worker 1 (b:1) has ended" if isinstance(error, RuntimeError) else None

        def __exit__(self, kind, error, trace):
            self.told = error

    together = Together.__new__(Together)
    together.team = Left()
    with pytest.raises(CheckFailed, match=r"^worker 1 \(b:1\) has ended; stopped: the same command on all"):
        together.__exit__(RuntimeError, RuntimeError("Collective ops is aborted\nand more"), None)
    assert isinstance(together.team.told, CheckFailed)
    # what is our own fault stays it
    own = InputError("mine")
    together.__exit__(InputError, own, None)
    assert together.team.told is own
