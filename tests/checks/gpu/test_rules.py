from pathlib import Path

import pytest

from portraitseg.checks.gpu.partition import cut
from portraitseg.checks.gpu.rules import CHECKS, DELEGATES, Delegate, judge, load_table
from portraitseg.tflite.graph import parse_graph, read_graph
from tests import outside
from tests.checks.gpu import zoo
from tests.checks.gpu.builder import Builder, options


@pytest.mark.parametrize("delegate", DELEGATES)
@pytest.mark.parametrize("name", zoo.BROKEN)
def test_broken_files_are_refused_for_their_reason(name: str, delegate: Delegate) -> None:
    animal = zoo.BROKEN[name]
    judgement = judge(parse_graph(animal.content(), name), delegate)
    if delegate not in animal.refused:
        assert judgement.refusals == ()
        return
    op, reason = animal.refused[delegate]
    assert any(refusal.name == op and reason in refusal.reason for refusal in judgement.refusals), judgement.refusals
    assert not judgement.is_taken
    for refusal in judgement.refusals:
        assert refusal.remedy and refusal.layer and ".cc" in refusal.source
        assert "\n" not in refusal.reason + refusal.remedy


@pytest.mark.parametrize("delegate", DELEGATES)
@pytest.mark.parametrize("name", zoo.SOUND)
def test_sound_files_are_taken(name: str, delegate: Delegate) -> None:
    judgement = judge(parse_graph(zoo.SOUND[name](), name), delegate)
    assert judgement.refusals == ()
    assert len(judgement.partition.delegated) == judgement.partition.ops


@pytest.mark.parametrize("delegate", DELEGATES)
def test_our_files_are_taken(our_files: dict[str, Path], delegate: Delegate) -> None:
    for path in our_files.values():
        judgement = judge(read_graph(path), delegate)
        assert judgement.refusals == (), path.name
        assert judgement.partition.delegated_macs == judgement.partition.macs > 1e6


@pytest.mark.parametrize("delegate", DELEGATES)
def test_mediapipe_models_are_taken_where_they_are_right(delegate: Delegate) -> None:
    for path in outside.mediapipe_models():
        judgement = judge(read_graph(path), delegate)
        # its means are over 72×128 pixels, and the masks of mediapipe 0.10.21 on OpenGL are wrong by 0.9
        wrong = ["MEAN"] if delegate == "classic" and "landscape" in path.name else []
        assert sorted({refusal.name for refusal in judgement.refusals}) == wrong, path.name


def test_a_refused_operator_in_the_middle_leaves_the_longer_half() -> None:
    partition = judge(parse_graph(zoo.split_in_the_middle(), "zoo"), "classic").partition
    assert partition.delegated == (0, 1, 2, 3, 4)
    assert partition.fallback == (5, 6, 7, 8, 9)
    assert 0 < partition.delegated_macs < partition.macs


def test_float16_weights_stay_behind_when_something_is_refused() -> None:
    graph = parse_graph(zoo.fp16_weights(), "zoo")
    whole = cut(graph, {0, 1, 2, 3, 4}, {0, 1}, most=1)
    assert whole.delegated == (0, 1, 2, 3, 4)
    assert cut(graph, {0, 1, 2, 3}, {0, 1}, most=1).delegated == (2, 3)


def test_multiply_accumulates() -> None:
    """By hand: 16×16 pixels, 3×3 filters."""
    pixels, c = zoo.SIDE**2, zoo.CHANNELS
    stem, head = pixels * 9 * 3 * c, pixels * c
    counted = {
        "depthwise": (zoo.depthwise(), stem + pixels * 9 * c + head),
        "transpose_conv": (zoo.transpose_conv(3), stem + pixels * 4 * c * c + 4 * head),
        "fully_connected": (zoo.fully_connected(), stem + pixels * c * 4 + pixels * 4),
        "fp16": (zoo.fp16_weights(), stem + head),
    }
    for name, (content, macs) in counted.items():
        assert judge(parse_graph(content, name), "classic").partition.macs == macs, name


def test_the_table_is_whole() -> None:
    named: set[str] = set()
    for delegate in DELEGATES:
        table = load_table(delegate)
        assert len(table.rows) > 50
        for name, row in table.rows.items():
            assert row.source.count(".cc: ") >= 1, name
            named |= set(row.checks)
    assert named == CHECKS.keys()


@pytest.mark.parametrize(
    ("one", "other", "classic", "mldrift"),
    [
        ((1, 4, 4, 8), (1, 4, 4, 8), True, True),
        ((1, 4, 4, 8), (4, 4, 8), True, True),
        ((1, 4, 4, 8), (1, 4, 4, 1), False, True),
        ((1, 1, 1, 8), (1, 4, 4, 8), True, True),
        ((1, 4, 4, 8), (1, 8), True, True),
        ((1, 4, 4, 8), (1, 1), True, True),
        ((1, 4, 4, 8), (4, 8), False, True),
        ((1, 4, 4, 8), (2, 8), False, False),
    ],
)
def test_broadcasting(one: tuple[int, ...], other: tuple[int, ...], classic: bool, mldrift: bool) -> None:
    b = Builder()
    inputs = [b.input(one), b.input(other, "other")]
    graph = parse_graph(b.content(b.op("ADD", inputs, b.tensor(one, "sum"), options("Add"))), "add")
    assert judge(graph, "classic").is_taken == classic
    assert judge(graph, "mldrift").is_taken == mldrift
