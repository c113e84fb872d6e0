"""What machines share: their batches are the batch, to the bit, and their losses add up to the loss."""

from dataclasses import replace

import numpy as np
import pytest

from portraitseg.config import parse_config
from tests.runners.tiny import write_tflite
from tests.train.noise import noise
from train import losses, replicas
from train.stream import Share, maker_of


def _maker(**settings):
    values = {
        "model": {"name": "fast_scnn_w050", "size": [32, 40]},
        "train": {"batch_size": 7, "paste_share": 0.5, "shrink_share": 0.5},
        **settings,
    }
    config = parse_config(values, "test")
    return maker_of(noise(), config, ("edge", "plain_logits"))


@pytest.mark.parametrize("photos", [1, 3, 7, 16])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_are_all_places_once(photos, count):
    parts = [Share(number, number + 1, count).indices(photos) for number in range(count)]
    assert [index for part in parts for index in part] == list(range(photos))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("has_sets", [False, True])
@pytest.mark.parametrize("is_mixed", [False, True])
def test_the_shares_of_a_batch_are_the_batch_to_the_bit(is_mixed, has_sets, tmp_path, monkeypatch):
    maker = _maker()
    if is_mixed:
        teacher = write_tflite(tmp_path / "t.tflite", shape=(1, 24, 30, 3))
        maker = _maker(distill={"files": [str(teacher)], "mixup": 0.7})
    if has_sets:
        # 5 photos at half their number, 11 twice and more, and background-only photos: 2 + 28 + 9 places
        maker = replace(maker, runs=((5, 0.5), (11, 2.5)), blank_keys=maker.keys[:2], blank_per_epoch=9)
        assert maker.steps_per_epoch == (2 + 28 + 9) // 7
    made = []
    plain = type(maker)._make_photo
    monkeypatch.setattr(
        type(maker), "_make_photo", lambda self, index, epoch: made.append(index) or plain(self, index, epoch)
    )
    whole = maker.make(3)
    for count in (2, 3):
        parts = [replace(maker, share=Share(number, number + 1, count)) for number in range(count)]
        made.clear()
        batches = [part.make(3) for part in parts]
        # a share, and where photos are mixed one photo of the next share
        assert len(made) == 7 + (count if is_mixed else 0)
        for name in ("images", "targets", "edges", "plain"):
            joined = np.concatenate([getattr(batch, name) for batch in batches])
            np.testing.assert_array_equal(joined, getattr(whole, name))


def _maps(photos, seed):
    rng = np.random.default_rng(seed)
    shape = (photos, 16, 20, 1)
    known = (rng.random(shape) < 0.7).astype(np.float32)
    known[0] = 0
    target = rng.integers(0, 2, shape).astype(np.float32)
    # shares that differ in all that is counted
    target[photos // 2 :] = 0
    return {
        "logits": rng.normal(size=shape).astype(np.float32),
        "target": target,
        "images": rng.random((photos, 16, 20, 3), np.float32),
        "edge": (rng.random(shape) < 0.2).astype(np.float32),
        "boundary_logits": rng.normal(size=(photos, 8, 10, 1)).astype(np.float32),
        "plain_logits": rng.normal(size=shape).astype(np.float32),
        "known": known,
    }


class _Replicas:
    """Runs a function for one replica after the other: first to see what each gives, then with the sums of all."""

    def __init__(self, monkeypatch, count):
        self.count, self.number, self.given, self.sums = count, 0, [[] for _ in range(count)], None
        for module in (losses, replicas):
            monkeypatch.setattr(module, "over_replicas", self._add)
        monkeypatch.setattr(losses, "gather", self._gather)
        monkeypatch.setattr(losses, "replica", lambda: self.number)

    def _collect(self, value, join):
        calls = self.given[self.number]
        calls.append(value)
        return value if self.sums is None else join(self.sums[len(calls) - 1])

    def _add(self, value):
        return self._collect(value, sum) + 0

    def _gather(self, value):
        gathered = self._collect(value, lambda values: losses.tf.stack(values))
        return losses.tf.stack([value] * self.count) if self.sums is None else gathered

    def run(self, function, parts):
        for self.number, part in enumerate(parts):
            function(part)
        self.sums = list(zip(*self.given, strict=True))
        self.given = [[] for _ in parts]
        results = []
        for self.number, part in enumerate(parts):
            results.append(function(part))
        return results


@pytest.mark.parametrize("with_known", [False, True])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_shares_of_a_loss_add_up_to_it(name, with_known, monkeypatch):
    maps = _maps(5, seed=1)
    if not with_known:
        del maps["known"]
    compute = losses.build({name: 1.0})
    expected = float(compute({key: losses.tf.constant(value) for key, value in maps.items()})[0])
    parts = [
        {key: losses.tf.constant(value[window]) for key, value in maps.items()} for window in (slice(0, 3), slice(3, 5))
    ]
    shares = _Replicas(monkeypatch, 2).run(lambda part: float(compute(part)[0]), parts)
    # float32 sums of 1,600 pixels in another order; the naive mean of the two shares is off by 1e-2
    assert sum(shares) == pytest.approx(expected, rel=2e-6)
    assert sum(shares) / 2 != pytest.approx(expected, rel=1e-3)
