"""Which networks are tested by default: the narrowest of each file, and of those of the literature none.

Tracing one takes seconds. The literature's networks change no more, and have tests of their own beside this; a line
added to MODELS is tested by default until it is named here.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from portraitseg import models

#: Files of networks that are kept for comparison.
LITERATURE = frozenset({"banet", "fast_scnn", "mattingnet", "mmnet", "portraitnet", "sinet"})

#: Network → the variant that is named last, the narrowest.
NARROWEST = {build.func.__module__: name for name, build in models.MODELS.items()}  # type: ignore[attr-defined]

BY_DEFAULT = frozenset(name for file, name in NARROWEST.items() if file.rpartition(".")[2] not in LITERATURE)


def variants(default: frozenset[str] | set[str] = BY_DEFAULT) -> Iterator[Any]:
    """All networks as parameters, those that `default` lacks marked `full`."""
    for name in models.MODELS:
        yield pytest.param(name, marks=() if name in default else pytest.mark.full)
