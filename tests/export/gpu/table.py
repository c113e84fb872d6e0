"""`python -m tests.export.gpu.table FILE…`: runs the zoo and the files; prints the tables of docs/gpu-check.md."""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from export.gpu import report
from export.gpu.driver import find_drivers
from tests.export import tiny
from tests.export.gpu import zoo


def main(paths: list[Path]) -> None:
    photos = tiny.samples(3, first=300)[0]
    matrix: Counter[tuple[str, str]] = Counter()
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        broken = [write(Path(folder), name, animal.content()) for name, animal in zoo.BROKEN.items()]
        sound = [write(Path(folder), name, content()) for name, content in zoo.SOUND.items()]
        print("| file | classic, by the rules | ML Drift, by the rules | ML Drift, by the run | caught by | s |")
        print("|---|---|---|---|---|---|")
        for path in [*broken, *sound, *paths]:
            found = report.examine(path, photos, [one for one in find_drivers() if one.route == "litert_swiftshader"])
            (run,) = found.runs
            rules = [refusal(judgement) for judgement in found.judgements]
            by_rules = any(not judgement.is_taken for judgement in found.judgements)
            caught = {(True, True): "both", (True, False): "rules", (False, True): "run", (False, False): "–"}
            how = caught[by_rules, run.verdict == "failed"]
            said = run.reason or f"passed, {run.max_abs:.1e}"
            print(f"| `{path.stem}` | {rules[0]} | {rules[1]} | {said[:150]} | {how} | {run.seconds:.1f} |", flush=True)
            matrix["take" if found.judgements[1].is_taken else "refuse", run.verdict] += 1
            seconds.append(run.seconds or 0)
    middle = sorted(seconds)[len(seconds) // 2]
    print(f"\n{dict(matrix)}; {len(seconds)} files, {sum(seconds):.0f} s, median {middle:.2f} s")


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / f"{name}.tflite"
    path.write_bytes(content)
    return path


def refusal(judgement: report.Judgement) -> str:
    if judgement.is_taken:
        return "taken"
    first = judgement.refusals[0]
    return f"{first.name}: {first.reason} ({len(judgement.partition.delegated)}/{judgement.partition.ops} on the GPU)"


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
