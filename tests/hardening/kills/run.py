"""`python -m tests.hardening.kills.run --kills 50 --work FOLDER`: the kills of docs/hardening.md; an hour or more.

Writes `FOLDER/<stage>.json`; with `--record` the figures also go into figures.json beside this file, and the
table into the document. Exit 1: something was lost, half-written or came out different.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hardening.kills.campaign import Result


def main() -> None:
    """Runs the campaign of every stage asked for."""
    # not above: the workers of a run import this module again, and this takes 3 s
    from tests.hardening.kills import document, stage
    from tests.hardening.kills.campaign import STAGES, STANDIN, as_json, run_campaign

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=list(STAGES), help=f"of {', '.join(STAGES)}; default: all")
    parser.add_argument("--kills", type=int, default=50, help="of each stage")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs; some 100 MB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="put the figures into docs/hardening.md")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if arguments.stages != [STANDIN]:
        stage.prepare()
    is_sound = True
    for name in arguments.stages:
        for result in run_campaign(name, arguments.kills, work, seed=arguments.seed):
            (work / f"{name}.json").write_text(json.dumps(as_json(result), indent=2))
            show(result)
        is_sound &= not faults_of(result) and result.greatest_difference == 0
        if arguments.record and name != STANDIN:
            document.record("kills", {name: as_json(result)})
    if not is_sound:
        sys.exit("error: files were lost or half-written, or differ: see above")


def show(result: "Result") -> None:
    """One line on the terminal."""
    print(
        f"{result.stage}: {result.kills} kills, {result.finished} finished, {len(faults_of(result))} faults, "
        f"greatest difference {result.greatest_difference:g}",
        flush=True,
    )


def faults_of(result: "Result") -> list[str]:
    """All that is wrong, a line each."""
    return [*result.half_written, *result.lost, *result.outlived, *result.failed]


if __name__ == "__main__":
    main()
