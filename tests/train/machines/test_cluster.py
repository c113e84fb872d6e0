"""Which of several machines this one is, from options or TF_CONFIG."""

import json

import pytest

from portraitseg.errors import InputError
from train.machines.cluster import Cluster, cluster_of


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


def test_a_machine_is_alone_unless_others_are_named():
    assert cluster_of(None, None) is None
    assert cluster_of("a:1", 0) is None
    assert cluster_of("a:1, b:2", 1) == Cluster(("a:1", "b:2"), 1)
    assert cluster_of("[::1]:1,b-2.c:65535", 0) == Cluster(("[::1]:1", "b-2.c:65535"), 0)


@pytest.mark.parametrize(
    ("workers", "task", "message"),
    [
        (None, 0, "of which workers"),
        ("a:1,b:2", None, "which of them is this machine"),
        ("a,b:2", 0, "'a' is not host:port"),
        ("a:0,b:2", 0, "not host:port"),
        ("a:70000,b:2", 0, "not host:port"),
        ("a:1,a:1", 0, "twice"),
        ("a:1,b:2", 2, "there are 2 workers, 0 to 1"),
        ("a:1,b:2", -1, "there are 2 workers"),
    ],
)
def test_what_cannot_be_is_refused(workers, task, message):
    with pytest.raises(InputError, match=message):
        cluster_of(workers, task)


def test_tf_config_is_read_as_tensorflow_reads_it(monkeypatch):
    cluster = {"chief": ["c:1"], "worker": ["a:1", "b:1"]}
    for task, expected in ((("chief", 0), 0), (("worker", 0), 1), (("worker", 1), 2)):
        text = json.dumps({"cluster": cluster, "task": {"type": task[0], "index": task[1]}})
        monkeypatch.setenv("TF_CONFIG", text)
        assert cluster_of(None, None) == Cluster(("c:1", "a:1", "b:1"), expected)
    # what is typed counts more
    assert cluster_of("x:1,y:1", 0) == Cluster(("x:1", "y:1"), 0)
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})
    )
    assert cluster_of(None, None) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not what TensorFlow's tools write"),
        ("[]", "not what TensorFlow's tools write"),
        ('{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}}', "cluster has ps"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "not in its cluster"),
    ],
)
def test_a_tf_config_that_cannot_be_used_is_named(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=message):
        cluster_of(None, None)
