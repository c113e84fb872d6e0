"""A step on two logical devices beside the same on one; in a process of its own, where TensorFlow has not begun.

Prints the greatest differences of what a step makes: gradients (as Adam keeps them), statistics and ranges.
"""

import json

import numpy as np

from export.quantization import qat
from export.quantization.ranges import share_ranges
from portraitseg import contract, models
from portraitseg.config import parse_config
from portraitseg.models.keras_route import keras, tf
from tests import small_network
from tests.train.noise import noise
from train import losses, replicas
from train.machines.replicated import Replicated
from train.optimize import Optimization
from train.stream import maker_of


def _config(**train):
    return parse_config(
        {
            "model": {"name": small_network.NAME, "size": [64, 64]},
            # an odd number: the devices' shares differ
            "train": {"batch_size": 5, **train},
            "loss": {name: 1.0 for name in losses.LOSSES if name not in ("boundary", "consistency")},
        },
        "test",
    )


def _build():
    return models.build_for_training(small_network.NAME, (64, 64))


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    models.MODELS[small_network.NAME] = small_network.build
    keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    config, model = _config(), _build()
    batch = maker_of(noise(), config).make(0)
    # one a process: a second one would count its collectives from the beginning again
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    quantized = qat.quantize(model)
    qat.calibrate(quantized, model, contract.bytes_to_float(batch.images))

    def made(optimization):
        terms = optimization.step(batch, 0.0, 0)
        arrays = optimization.arrays()
        return np.concatenate([np.ravel(a) for name in ("weights", "optimizer") for a in arrays[name]]), terms["loss"]

    def again(build, twin):
        return Replicated(twin, build, config, strategy, share_ranges)

    def difference(one, other):
        return float(np.abs(one[0] - other[0]).max())

    # what a step changes: the weights to begin with are kept
    begun = {id(item): item.get_weights() for item in (model, quantized)}
    plain = {}
    for item in (model, quantized):
        plain[id(item)] = made(Optimization(item, config))
        item.set_weights(begun[id(item)])
    found = {
        "float32": difference(plain[id(model)], made(again(_build, model))),
        "qat": difference(plain[id(quantized)], made(again(lambda: qat.quantize(model), quantized))),
    }
    half = Replicated(model, _build, _config(precision="bfloat16"), tf.distribute.get_strategy())
    found["bfloat16"] = abs(made(half)[1] / plain[id(model)][1] - 1)
    replicas.synchronize = lambda model: None
    found["alone"] = difference(plain[id(model)], made(again(_build, model)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
