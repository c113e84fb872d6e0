"""A folder of exported files without an export: Fast-SCNN's entries in a manifest, and where its weights came from."""

from pathlib import Path

from portraitseg import files
from portraitseg.manifest import FileEntry, Parity, Source, Tensor


def entry(path: Path, recipe: str) -> FileEntry:
    image = Tensor(name="image", shape=(1, 256, 256, 3), dtype="float32", layout="NHWC", color="RGB", range=(0, 1))
    mask = Tensor(name="mask", shape=(1, 256, 256, 1), dtype="float32", range=(0, 1), foreground="high")
    return FileEntry(
        path=path.name,
        sha256=files.sha256(path),
        bytes=files.size_bytes(path),
        model="fast_scnn",
        channels="rgb",
        recipe=recipe,
        input=image,
        output=mask,
        parity=Parity(reference="keras", not_run="only made for this test"),
    )


def source(weights_sha256: str) -> Source:
    return Source(
        model="fast_scnn",
        config_sha256="0" * 64,
        git_commit="unknown",
        seed=7,
        weights_sha256=weights_sha256,
        data=(),
        tools={},
    )
