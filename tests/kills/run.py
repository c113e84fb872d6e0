"""`python -m tests.kills.run --kills 50 --work FOLDER`: the kills of docs/hardening.md; an hour or more.

Writes `FOLDER/<stage>.json`; `--record` also puts the figures into tests/hardening.json and the table into the
document.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.kills.campaign import Result


def main() -> None:
    """Runs the campaign of every stage asked for."""
    # not above: the workers of a run import this module again, and this takes 3 s
    from tests.kills import stage
    from tests.kills.campaign import STAGES, as_json, run_campaign

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=list(STAGES), help=f"of {', '.join(STAGES)}; default: all")
    parser.add_argument("--kills", type=int, default=50, help="of each stage")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs; some 100 MB")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    stage.prepare()
    for name in arguments.stages:
        for result in run_campaign(name, arguments.kills, work, seed=arguments.seed):
            (work / f"{name}.json").write_text(json.dumps(as_json(result), indent=2))
            show(result)


def show(result: "Result") -> None:
    """One line on the terminal."""
    faults = len(result.half_written) + len(result.lost) + len(result.outlived) + len(result.failed)
    print(
        f"{result.stage}: {result.kills} kills, {result.finished} finished, {faults} faults, "
        f"greatest difference {result.greatest_difference:g}",
        flush=True,
    )


if __name__ == "__main__":
    main()
