"""`python -m tests.checks.gpu.grid_runs RESULTS.jsonl ROUTE…`: the grid by rules and by routes, many files a process.

Routes: rules, litert, classic, web. RESULTS keeps what was found, so that a run that was stopped goes on.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from portraitseg.checks.gpu import classic, driver, web
from portraitseg.checks.gpu.inputs import opaque
from portraitseg.checks.gpu.log import read_log
from portraitseg.checks.gpu.process import read_runs, write_runs
from portraitseg.checks.gpu.rules import judge
from portraitseg.child import Ended, run_limited
from portraitseg.tflite import metadata
from portraitseg.tflite.graph import parse_graph
from tests.checks.gpu import blocks, grid
from tests.checks.gpu.standin import reference_masks

#: Files in one process; then what was found is kept.
BATCH = 24
BATCH_S = 900.0

#: Where an operator is right, 16 bits move the mask by at most 0.018; where it is wrong, by 0.04 and more.
LIMIT = 0.02

FORKED = Path(__file__).with_name("forked.py")
Verdict = dict[str, Any]


def main(results: Path, routes: Sequence[str]) -> None:
    """Runs what is missing in a file of results."""
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(row["name"], row["route"]) for row in rows}
    for route in routes:
        left = [(name, make) for name, make in files_for(route).items() if (name, route) not in done]
        for start in range(0, len(left), BATCH):
            batch = {name: make() for name, make in left[start : start + BATCH]}
            with results.open("a") as file:
                for name, verdict in ROUTES[route](batch).items():
                    file.write(json.dumps({"name": name, "route": route, **verdict}) + "\n")
            print(route, start + len(batch), "of", len(left), flush=True)


def files_for(route: str) -> dict[str, Callable[[], bytes]]:
    """What a route runs, by name: the blocks of networks, then the grid, of which the slow route gets a part."""
    cells = grid.core() if route == "web" else grid.cells()
    made: dict[str, Callable[[], bytes]] = {name: partial(blocks.build, block) for name, block in blocks.BLOCKS.items()}
    made |= {
        name: partial(blocks.build, blocks.BLOCKS[name_of], side) for name, (name_of, side) in blocks.SIDES.items()
    }
    return made | {cell.name: partial(grid.build, cell) for cell in cells}


def run_rules(batch: Mapping[str, bytes]) -> dict[str, Verdict]:
    """What the rules of both delegates say."""
    verdicts = {}
    for name, content in batch.items():
        graph = parse_graph(content, name)
        refused = {d: [fault.reason for fault in judge(graph, d).refusals] for d in ("classic", "mldrift")}
        verdicts[name] = {"refused": refused}
    return verdicts


def run_litert(batch: Mapping[str, bytes]) -> dict[str, Verdict]:
    """ML Drift on SwiftShader."""
    swiftshader = driver.named("swiftshader")
    with TemporaryDirectory() as name:
        folder = Path(name)
        jobs = []
        for stem, content in batch.items():
            (folder / stem).mkdir()
            (folder / f"{stem}.tflite").write_bytes(content)
            write_runs(folder / f"{stem}.npz", grid.inputs(images_of(content)))
            arguments = [f"{folder / stem}.tflite", f"{folder / stem}.npz", str(folder / stem), "fp32"]
            jobs.append({"log": str(folder / f"{stem}.log"), "arguments": arguments})
        child = str(driver.CACHE.parents[1] / "portraitseg/checks/gpu/child.py")
        modules = "ai_edge_litert.compiled_model,ai_edge_litert.interpreter"
        variables = {**swiftshader.environment(), "TF_CPP_MIN_LOG_LEVEL": "0"}
        run_forked([sys.executable, str(FORKED), child, modules], jobs, folder, variables)
        return {
            stem: judged(content, folder / f"{stem}.log", folder / stem / "gpu.npz") for stem, content in batch.items()
        }


def run_classic(batch: Mapping[str, bytes]) -> dict[str, Verdict]:
    """The classic delegate on OpenGL ES, mediapipe 0.10.21."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        jobs = []
        for stem, content in batch.items():
            (folder / f"{stem}.tflite").write_bytes(with_metadata(content))
            np.save(folder / f"{stem}.npy", images_of(content))
            arguments = [f"{folder / stem}.tflite", f"{folder / stem}.npy", f"{folder / stem}.npz"]
            jobs.append({"log": str(folder / f"{stem}.log"), "arguments": arguments})
        python = str(classic.FOLDER / "bin" / "python")
        command = [python, str(FORKED), str(classic.CHILD), "mediapipe,mediapipe.tasks.python.vision"]
        run_forked(command, jobs, folder, classic.VARIABLES)
        return {
            stem: judged(content, folder / f"{stem}.log", folder / f"{stem}.npz") for stem, content in batch.items()
        }


def run_web(batch: Mapping[str, bytes]) -> dict[str, Verdict]:
    """The classic delegate in a browser, @mediapipe/tasks-vision."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        jobs = []
        for stem, content in batch.items():
            (folder / stem).mkdir()
            (folder / f"{stem}.tflite").write_bytes(with_metadata(content))
            for run, image in enumerate(images_of(content)):
                (folder / stem / f"input_{run}.bin").write_bytes(opaque(image).tobytes())
            job = {
                "library": "mediapipe",
                "model": f"{folder / stem}.tflite",
                "folder": str(folder / stem),
                "packages": str(web.FOLDER),
                "chromium": web.find_browser(),
                "runs": grid.IMAGES,
                "size": list(images_of(content).shape[1:3]),
            }
            (folder / stem / "job.json").write_text(json.dumps(job))
            jobs.append(str(folder / stem / "job.json"))
        ended = run_limited(["node", str(web.SOURCES / "driver.mjs"), *jobs], folder, BATCH_S)
        verdicts = {}
        for stem, content in batch.items():
            outputs = [folder / stem / f"output_{run}_0.bin" for run in range(grid.IMAGES)]
            if all(path.exists() for path in outputs):
                write_runs(
                    folder / stem / "gpu.npz", [[np.frombuffer(path.read_bytes(), np.float32)] for path in outputs]
                )
            log = folder / stem / "console.log"
            if not log.exists():
                log.write_text(ended.log)
            verdicts[stem] = judged(content, log, folder / stem / "gpu.npz")
        return verdicts


def images_of(content: bytes) -> np.ndarray:
    """Images of a file's own size."""
    _, height, width, _ = parse_graph(content, "grid").inputs[0].shape
    return grid.images(height, width)


def with_metadata(content: bytes) -> bytes:
    """What MediaPipe asks of a file."""
    return metadata.attach(content, metadata.Card("network", "unknown", "unknown", "unknown", "rgb"))


def run_forked(command: list[str], jobs: list[dict[str, Any]], folder: Path, variables: Mapping[str, str]) -> Ended:
    (folder / "jobs.json").write_text(json.dumps(jobs))
    (folder / "forked").mkdir()
    return run_limited([*command, str(folder / "jobs.json")], folder / "forked", BATCH_S, variables)


def judged(content: bytes, log: Path, outputs: Path) -> Verdict:
    """right, wrong (with the greatest difference), cpu (partly), or failed with the delegate's words."""
    text = log.read_text(errors="replace") if log.exists() else "nothing said"
    messages, gpu = read_log(text), read_runs(outputs)
    if messages.refused or messages.delegated is not None:
        return {"verdict": "refused", "says": "; ".join(messages.refused)[:200]}
    if gpu is None:
        return {"verdict": "failed", "says": (messages.fatal or next(iter(messages.errors), None) or text[-300:])[:300]}
    expected = np.stack(reference_masks(content, grid.inputs(images_of(content))))
    gap = np.abs(np.stack([run[0].reshape(expected.shape[1:]) for run in gpu]) - expected)
    greatest = float(gap.max()) if np.isfinite(gap).all() else 1.0
    return {"verdict": "right" if greatest <= LIMIT else "wrong", "max_abs": greatest, "mean_abs": float(gap.mean())}


ROUTES: dict[str, Callable[[Mapping[str, bytes]], dict[str, Verdict]]] = {
    "rules": run_rules,
    "litert": run_litert,
    "classic": run_classic,
    "web": run_web,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
