"""`python -m tests.checks.gpu.table RESULTS.jsonl FILE…`: the zoo and the files by the rules and by every route.

Prints the tables of docs/gpu-check.md. RESULTS.jsonl keeps what was found, so that a run that was stopped goes on.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from portraitseg.checks.gpu import report
from portraitseg.checks.gpu.driver import find_drivers
from portraitseg.checks.gpu.routes import ROUTES
from portraitseg.checks.gpu.rules import DELEGATES
from tests.checks.gpu import zoo
from tests.export import tiny

#: Delegate → the routes that run it.
RUNS = {"classic": ("classic_mediapipe", "web_mediapipe"), "mldrift": ("litert_swiftshader", "web_litert")}


#: Of a run, what the tables are made of.
KEPT = ("verdict", "reason", "max_abs", "mean_abs", "mask_iou", "seconds", "nodes", "delegated", "adapter", "precision")


def main(results: Path, paths: list[Path]) -> None:
    rows_by_name = (
        {row["name"]: row for row in map(json.loads, results.read_text().splitlines())} if results.exists() else {}
    )
    with TemporaryDirectory() as folder:
        contents = {**{name: animal.content for name, animal in zoo.BROKEN.items()}, **zoo.SOUND}
        for name, content in contents.items():
            (Path(folder) / f"{name}.tflite").write_bytes(content())
        for path in [*(Path(folder) / f"{name}.tflite" for name in contents), *paths]:
            if path.stem not in rows_by_name:
                rows_by_name[path.stem] = examine(path)
                with results.open("a") as file:
                    file.write(json.dumps(rows_by_name[path.stem]) + "\n")
    names = [*contents, *(path.stem for path in paths)]
    rows = [rows_by_name[name] for name in names]
    print_files(rows)
    for delegate, routes in RUNS.items():
        for route in routes:
            print_matrix(delegate, route, rows)


def examine(path: Path) -> dict[str, Any]:
    swiftshader = [one for one in find_drivers() if one.route == "litert_swiftshader"]
    examined = report.examine(path, tiny.samples(3, first=300)[0], swiftshader, tuple(ROUTES), time_limit_s=3600)
    rules = {judgement.delegate: refusal(judgement) for judgement in examined.judgements}
    runs = {run.route: {key: getattr(run, key) for key in KEPT} for run in examined.runs}
    return {"name": path.stem, "rules": rules, "runs": runs}


def refusal(judgement: report.Judgement) -> str:
    if judgement.is_taken:
        return "taken"
    first = judgement.refusals[0]
    return f"{first.name}: {first.reason} ({len(judgement.partition.delegated)}/{judgement.partition.ops})"


def print_files(rows: Iterable[dict[str, Any]]) -> None:
    routes = [route for group in RUNS.values() for route in group]
    print("| file | rules, classic | rules, ML Drift |", *(f"{route} |" for route in routes))
    print("|---|" * 3 + "---|" * len(routes))
    for row in rows:
        drift = "the same" if row["rules"]["mldrift"] == row["rules"]["classic"] != "taken" else row["rules"]["mldrift"]
        cells = [f"`{row['name']}`", row["rules"]["classic"], drift, *(cell(row["runs"][route]) for route in routes)]
        print("| " + " | ".join(cells) + " |")


def cell(run: dict[str, Any]) -> str:
    if run["verdict"] == "passed":
        return f"{run['max_abs']:.1e}, mean {run['mean_abs']:.1e}, {run['seconds']:.1f} s"
    return f"{run['verdict']}: {(run['reason'] or '')[:150]}"


def print_matrix(delegate: str, route: str, rows: Iterable[dict[str, Any]]) -> None:
    assert delegate in DELEGATES
    rows = list(rows)
    count = Counter((row["rules"][delegate] == "taken", row["runs"][route]["verdict"]) for row in rows)
    print(f"\n{delegate}, {route}:\n\n| | passed | failed | not_run |\n|---|---|---|---|")
    for taken, words in ((True, "rules take it"), (False, "rules refuse it")):
        print(
            f"| {words} | " + " | ".join(str(count[taken, verdict]) for verdict in ("passed", "failed", "not_run")), "|"
        )
    differ = [
        row["name"]
        for row in rows
        if (row["rules"][delegate] == "taken") is not (row["runs"][route]["verdict"] == "passed")
        and row["runs"][route]["verdict"] != "not_run"
    ]
    seconds = sorted(row["runs"][route]["seconds"] or 0 for row in rows if row["runs"][route]["verdict"] != "not_run")
    middle = seconds[len(seconds) // 2] if seconds else 0
    print(
        f"\nthey differ on {', '.join(differ) or 'none'}; "
        f"median {middle:.1f} s, at most {max(seconds, default=0):.1f} s"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
