"""docs/hardening.md: its tables come from figures.json beside this file, the text between is written by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portraitseg import files

ROOT = Path(__file__).parents[3]
FIGURES = ROOT / "tests/hardening/kills/figures.json"
DOCUMENT = ROOT / "docs/hardening.md"


def record(section: str, figures: Mapping[str, Any]) -> None:
    """Adds figures to a section (`kills`, `fuzz`, `faults`), and writes the tables of the document anew."""
    known = read()
    known.setdefault(section, {}).update(figures)
    files.write_json(FIGURES, known)
    files.write_text(DOCUMENT, filled(DOCUMENT.read_text(encoding="utf-8"), known))


def read() -> dict[str, Any]:
    """All figures, by section."""
    figures: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return figures


def filled(text: str, figures: Mapping[str, Any]) -> str:
    """The document with its tables as the figures say: each lies between `<!-- <section> -->` and `<!-- end -->`."""
    for section, table in TABLES.items():
        opening = f"<!-- {section} -->\n"
        before, marker, rest = text.partition(opening)
        if marker:
            text = (
                before + opening + table(figures.get(section, {})) + "<!-- end -->" + rest.partition("<!-- end -->")[2]
            )
    return text


def kills_table(stages: Mapping[str, Any]) -> str:
    """One row a stage."""
    columns = (
        "stage",
        "kills",
        "at a random moment / before a random change of a file",
        "the process alone / with its children",
        "files checked",
        "half-written",
        "lost",
        "processes left",
        "finished runs",
        "greatest difference",
        "of",
    )
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, row in stages.items():
        lines.append(
            f"| {name} | {row['kills']} | {row['at_a_moment']} / {row['at_a_change']} "
            f"| {row['process_alone']} / {row['with_children']} | {row['files_checked']} "
            f"| {len(row['half_written'])} | {len(row['lost'])} | {len(row['outlived'])} | {row['finished']} "
            f"| {row['greatest_difference']:g} | {row['compared']} |"
        )
    return _table(lines)


def fuzz_table(targets: Mapping[str, Any]) -> str:
    """One row a reader."""
    lines = [
        "| reader | inputs | branches of Python reached: by the seeds → at the end | findings |",
        "|---|---|---|---|",
    ]
    for name, row in targets.items():
        if row["guided"]:
            reached = f"{row['branches_of_seeds']} → {row['branches']}"
        else:
            reached = "not guided; " + ", ".join(f"{end}: {count}" for end, count in row["ends"].items())
        lines.append(f"| {name} | {row['inputs']} | {reached} | {'1' if row['finding'] else '0'} |")
    return _table(lines)


def faults_table(rows: Mapping[str, Any]) -> str:
    """One row a stage and fault."""
    lines = ["| command | what strikes | times | exit code: times | broken | first line |", "|---|---|---|---|---|---|"]
    for row in rows.values():
        codes = ", ".join(f"{code}: {count}" for code, count in row["codes"].items())
        counts = f"{row['count']} | {codes} | {len(row['broken'])}"
        lines.append(f"| {row['command']} | {row['what']} | {counts} | `` {row['line']} `` |")
    return _table(lines)


TABLES = {"kills": kills_table, "fuzz": fuzz_table, "faults": faults_table}


def _table(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
