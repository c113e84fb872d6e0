"""What stages do with files, without what they compute: weights, a state, a folder of exports with its manifest.

For `make test`: a run takes a tenth of a second. The real stages are killed in `make test-full`.
"""

import json
from pathlib import Path

import h5py
import numpy as np

from portraitseg import files, manifest
from portraitseg.runs import Run
from train import state

EPOCHS = 4

_CONFIG = {"config": {"name": "standin", "layers": []}}


def app(arguments: list[str]) -> None:
    """`--run a --seed 7`: goes on where an earlier call with this seed was stopped."""
    run, seed = Run(arguments[1]), int(arguments[3])
    with run.locked():
        files.write_json(run.config, {"seed": seed})
        loaded = state.load(run.folder)
        progress, arrays = loaded or (state.Progress(str(seed)), {"weights": [np.full(500, float(seed))]})
        if progress.fingerprint != str(seed):
            progress, arrays = state.Progress(str(seed)), {"weights": [np.full(500, float(seed))]}
        weights = arrays["weights"][0]
        while progress.step < EPOCHS:
            weights = weights + np.random.default_rng([seed, progress.step]).random(500)
            for path in (run.best, run.folder / "last.h5"):
                _write_h5(path, weights)
            progress.step += 1
            state.save(run.folder, progress, {"weights": [weights]})
        source = manifest.Source(
            model="standin",
            config_sha256="0" * 64,
            git_commit="unknown",
            seed=seed,
            weights_sha256=files.sha256(run.best),
            data=(),
            tools={},
        )
        manifest.add_stage(run.artifact, source, "train", {"epochs": EPOCHS})
        with files.revising(run.ios) as folder:
            names = ("one.mlmodel", "two.mlpackage")
            (folder / names[0]).unlink(missing_ok=True)
            (folder / names[0]).write_bytes(weights.tobytes())
            with files.replacing(folder / names[1]) as package:
                package.mkdir()
                (package / "weight.bin").write_bytes(weights.tobytes())
            entries = [_entry(folder, name) for name in names]
            manifest.write(folder / manifest.MANIFEST_NAME, manifest.Manifest(source=source, files=tuple(entries)))


def _write_h5(path: Path, weights: np.ndarray) -> None:
    """As `checkpoint.save` does."""
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        file.attrs["model_config"] = json.dumps(_CONFIG)
        file["weights"] = weights
        file.flush()
        content = file.id.get_file_image()
    files.write_bytes(path, content)


def _entry(folder: Path, name: str) -> manifest.FileEntry:
    pixels = manifest.Tensor(name="image", shape=(1, 8, 8, 3), dtype="image", range=(0.0, 255.0))
    return manifest.FileEntry(
        path=name,
        sha256=files.sha256(folder / name),
        bytes=files.size_bytes(folder / name),
        model="standin",
        channels="rgb",
        recipe="fp16",
        input=pixels,
        output=pixels,
        parity=manifest.Parity(reference="none", not_run="nothing to compare"),
    )
