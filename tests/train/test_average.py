"""Model soups: the mean of every weight, of one network only."""

import numpy as np
import pytest

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import checkpoint
from tests import small_network
from train.weights.average import average

registered = small_network.registered


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three h5 of one network whose weights differ; batch norm's statistics too."""
    paths, folder = [], tmp_path_factory.mktemp("trained")
    for number in range(3):
        model = models.build(small_network.NAME, (64, 64))
        rng = np.random.default_rng(number)
        model.set_weights([rng.uniform(0.1, 1.0, array.shape) for array in model.get_weights()])
        checkpoint.save(model, paths.append(folder / f"{number}.h5") or paths[-1])
    return paths


def test_every_weight_is_the_mean(trained, tmp_path):
    out = tmp_path / "new" / "mean.h5"
    average(trained, out)
    every = [checkpoint.load(path).get_weights() for path in trained]
    mean = checkpoint.load(out).get_weights()
    for array, *given in zip(mean, *every, strict=True):
        np.testing.assert_allclose(array, sum(given) / 3, rtol=1e-6)
    # and in another order the same file
    average(trained[::-1], tmp_path / "other.h5")
    for array, same in zip(mean, checkpoint.load(tmp_path / "other.h5").get_weights(), strict=True):
        np.testing.assert_array_equal(array, same)


def test_what_has_no_mean_is_refused(trained, tmp_path):
    out = tmp_path / "mean.h5"
    checkpoint.save(models.build("contour_small", (64, 64)), tmp_path / "other.h5")
    with pytest.raises(InputError, match=r"other.h5: holds contour_small, not small_network as"):
        average([trained[0], tmp_path / "other.h5"], out)
    with pytest.raises(InputError, match="two h5 or more"):
        average(trained[:1], out)
    with pytest.raises(InputError, match="exists: name a new file"):
        average(trained, trained[1])
    with pytest.raises(InputError, match="no such file"):
        average([trained[0], tmp_path / "none.h5"], out)
    assert not out.exists()


def test_other_weights_under_the_same_name_are_refused(trained, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(models.MODELS, small_network.NAME, lambda size: small_network.build(size, channels=4))
        checkpoint.save(models.build(small_network.NAME, (64, 64)), tmp_path / "other.h5")
    with pytest.raises(InputError, match="do not fit"):
        average([trained[0], tmp_path / "other.h5"], tmp_path / "mean.h5")


def test_sizes_may_differ(trained, tmp_path):
    start, tuned = trained[:2]
    larger = models.build(small_network.NAME, (96, 64))
    larger.set_weights(checkpoint.load(tuned).get_weights())
    checkpoint.save(larger, tmp_path / "larger.h5")
    average([start, tuned], tmp_path / "same.h5", [0.25])
    expected = checkpoint.load(tmp_path / "same.h5").get_weights()
    cases = (("a.h5", None, (64, 64)), ("b.h5", (32, 48), (32, 48)))
    for name, size, made in cases:
        average([start, tmp_path / "larger.h5"], tmp_path / name, [0.25], size)
        mean = checkpoint.load(tmp_path / name)
        assert mean.input_shape == (None, *made, 3)
        for array, same in zip(mean.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(array, same)
    with pytest.raises(InputError, match="multiples of 4"):
        average([start, tuned], tmp_path / "odd.h5", size=(33, 48))
    assert not (tmp_path / "odd.h5").exists()


def test_each_has_its_share(trained, tmp_path):
    assert average(trained, tmp_path / "a.h5", [0.5, 0.3, 0.2]) == [0.5, 0.3, 0.2]
    given = [checkpoint.load(path).get_weights() for path in trained]
    for array, *three in zip(checkpoint.load(tmp_path / "a.h5").get_weights(), *given, strict=True):
        np.testing.assert_allclose(array, 0.5 * three[0] + 0.3 * three[1] + 0.2 * three[2], rtol=1e-6)


def test_a_share_is_that_of_the_second(trained, tmp_path):
    start, tuned = (checkpoint.load(path).get_weights() for path in trained[:2])
    average(trained[:2], tmp_path / "a.h5", shares=[0.8])
    for array, *given in zip(checkpoint.load(tmp_path / "a.h5").get_weights(), start, tuned, strict=True):
        np.testing.assert_allclose(array, 0.2 * given[0] + 0.8 * given[1], rtol=1e-6)
    # at the ends it is one of them, to the last bit
    for share, expected in ((0.0, start), (1.0, tuned)):
        average(trained[:2], tmp_path / f"{share}.h5", shares=[share])
        for array, same in zip(checkpoint.load(tmp_path / f"{share}.h5").get_weights(), expected, strict=True):
            np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize(
    ("count", "shares"),
    [(3, [0.5]), (2, [1.5]), (2, [-0.1]), (2, [float("nan")]), (3, [0.5, 0.2, 0.2]), (3, [0.5, 0.5]), (2, [1.2, -0.2])],
)
def test_impossible_shares_are_refused(trained, tmp_path, count, shares):
    with pytest.raises(InputError, match=rf"--share .* one for each of the {count} h5"):
        average(trained[:count], tmp_path / "a.h5", shares)
