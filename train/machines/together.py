"""The team of a training and its optimization: one call for one machine and for many."""

from collections.abc import Callable, Mapping
from typing import Any

from portraitseg.config import Config
from portraitseg.data import Dataset
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models.keras_route import tf
from train.machines import roll_call
from train.machines.cluster import Cluster
from train.machines.devices import Devices
from train.machines.replicated import Replicated
from train.machines.team import Team, Workers
from train.optimize import Optimization
from train.stream import Share


class Together:
    """A context manager: connects the workers, and makes what their training needs."""

    def __init__(
        self,
        cluster: Cluster | None,
        devices: Devices,
        config: Config,
        identity: str,
        dataset: Dataset,
        wait_s: float,
    ) -> None:
        """Calls the roll and connects, before TensorFlow has begun.

        Args:
            cluster: of several machines; None: this one alone.
            devices: of this machine.
            config: of the training.
            identity: what its settings are known by, which all workers must share.
            dataset: with the splits of `config`.
            wait_s: for workers that have not come yet.

        Raises:
            InputError: fewer photos in a batch than devices, or as `Workers`.
        """
        self._devices, self._config = devices, config
        machines = len(cluster.workers) if cluster else 1
        self._replicas = machines * len(devices.names)
        if self._replicas > config.train.batch_size:
            raise InputError(
                f"train.batch_size {config.train.batch_size}: fewer photos than the {self._replicas} devices that "
                "share a batch: set it higher"
            )
        self.team = Team()
        if cluster is not None:
            keys: Mapping[str, tuple[str, ...]] = {
                split: dataset.keys(split) for split in (config.data.train_split, config.data.val_split)
            }
            self.team = Workers(cluster, roll_call.facts(identity, keys, dataset, len(devices.names)), wait_s)

    def __enter__(self) -> "Together":
        self.team.__enter__()
        try:
            self._strategy = self.team.connect() or self._devices.strategy()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        # a step that fails has its own answer; here it was a network that was being built, or a state handed out
        why = None if error is None else self.team.reason(error)
        if why is None:
            self.team.__exit__(kind, error, trace)
            return
        failed = CheckFailed(f"{why}; stopped: the same command on all workers, or with another list of them, goes on")
        self.team.__exit__(CheckFailed, failed, trace)
        raise failed from error

    @property
    def share(self) -> Share:
        """The share of each batch that this machine makes."""
        return self.team.share(len(self._devices.names))

    def optimization(
        self,
        model: Any,
        build: Callable[[], Any],
        config: Config,
        share_ranges: Callable[[Any, Callable[[Any], Any]], None] | None = None,
    ) -> Optimization:
        """That of `model`, on all devices; arguments as of `Replicated`."""
        if self._replicas == 1 and config.train.precision == "float32":
            return Optimization(model, config)
        return Replicated(model, build, config, self._strategy, share_ranges)


def begin(seed: int) -> None:
    """Seeds, and kernels that repeat; once the workers are connected, since it begins TensorFlow."""
    from portraitseg.models.keras_route import keras

    keras.utils.set_random_seed(seed)
    # resumed and uninterrupted runs are to agree to the last bit; measured cost on two cores: none
    tf.config.experimental.enable_op_determinism()
