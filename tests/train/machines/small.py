"""`python -m tests.train.machines.small train|export …`: the commands, with a network that is traced in a second."""

import sys

from portraitseg import models
from tests import small_network

if __name__ == "__main__":
    models.MODELS[small_network.NAME] = small_network.build
    stage = sys.argv.pop(1)
    # what a message names to go on with
    sys.argv[0] = f"{stage}/__main__.py"
    from portraitseg import cli

    if stage == "train":
        from train.__main__ import app
    else:
        from export.__main__ import app
    cli.run(app)
