"""The routes by name: each runs a file on a GPU delegate, and each is one file."""

from collections.abc import Callable
from dataclasses import dataclass

from portraitseg.checks.gpu import classic, driver, halves, litert, web
from portraitseg.checks.gpu.result import GpuRun, Subject


@dataclass(frozen=True)
class Route:
    """One way to run a file on a GPU.

    Attributes:
        run: judges a file by running it; one result for each driver or runtime of the route.
        install: fetches into .cache/ what the route needs and this project does not bring.
    """

    run: Callable[[Subject], list[GpuRun]]
    install: Callable[[], object]


ROUTES: dict[str, Route] = {
    "litert": Route(litert.run_file, driver.fetch),
    "classic": Route(classic.run_file, classic.install),
    "web": Route(web.run_file, web.install),
}

#: Runs of every check, on the CPU: what a driver in software cannot show.
ALWAYS = (halves.run_file,)

#: What is run unless another route is asked for: the others want more of a machine, and more time.
DEFAULT = ("litert",)
