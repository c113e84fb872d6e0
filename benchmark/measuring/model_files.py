"""Which files are measured: everything in the run's manifests, and the peers that the user points to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portraitseg import files, manifest
from portraitseg.errors import InputError
from portraitseg.manifest import Refine
from portraitseg.refine import EdgeRefiner
from portraitseg.runs import Run

#: Recipe of a file that is not ours.
FOREIGN = "foreign"

#: The file to which latencies are compared when it is among the peers and the user names none.
DEFAULT_PEER = "mediapipe_selfie_general_256.tflite"


@dataclass(frozen=True)
class ModelFile:
    """One file to measure.

    Attributes:
        path: as the user would type it.
        model, recipe: from the manifest; the stem and `foreign` for a peer.
        channels: from the manifest; None for a peer until it is opened.
        bytes: of the file, or of the folder that an .mlpackage is.
        manifest, sha256: the manifest that lists it, and the hash there; None for a peer.
        gpu: what check-gpu found of it, route by route, as its manifest says; None: not asked.
        arm: what check-arm found of it, core by core, likewise.
        refine: parameters of edge refinement that were chosen for its network, as the manifest says; None: none were.
    """

    path: Path
    model: str
    recipe: str
    channels: str | None
    bytes: int
    manifest: Path | None = None
    sha256: str | None = None
    gpu: str | None = None
    arm: str | None = None
    refine: Refine | None = None

    @property
    def refiner(self) -> EdgeRefiner | None:
        """What refines its masks; None where no parameters were chosen."""
        return EdgeRefiner(**self.refine.parameters) if self.refine else None

    @property
    def name(self) -> str:
        """What the table calls the file."""
        return self.path.as_posix()


def collect_files(run: Run, peers: Path | None) -> list[ModelFile]:
    """The run's files in the order of their manifests (Android, iOS, ONNX), then the peers.

    Raises:
        InputError: a file that differs from its manifest; files of different weights; a folder of peers without a
            .tflite; nothing at all.
    """
    records = {path: manifest.read(manifest.Manifest, path) for path in run.manifests.values()}
    _check_one_source(run, records)
    model_files = [model_file for path, record in records.items() for model_file in _listed_files(path, record)]
    if peers is not None:
        model_files.extend(collect_peers(peers))
    if not model_files:
        raise InputError(
            f"run '{run.name}': no manifest in {' or '.join(map(str, run.exports.values()))}: export it first"
        )
    return model_files


def _check_one_source(run: Run, records: Mapping[Path, manifest.Manifest]) -> None:
    """One table is of one training: a run trained again keeps its older files until they are exported again."""
    sources = {path: record.source.weights_sha256 for path, record in records.items()}
    if run.artifact.exists():
        expected = manifest.read(manifest.Artifact, run.artifact).source.weights_sha256
    else:
        expected = next(iter(sources.values()), "")
    for path, weights in sources.items():
        if weights != expected:
            raise InputError(f"{path}: made from other weights than the run's: export the run again, or take it away")


def choose_reference(model_files: list[ModelFile], named: Path | None) -> tuple[list[ModelFile], ModelFile | None]:
    """The file to which latencies are compared: as named, else MediaPipe's general model, else our RGB fp32 or fp16.

    Args:
        model_files: what is measured.
        named: a path, or the name of one of them.

    Returns:
        The files, with the reference added where it was not among them; and the reference, None if there is none.

    Raises:
        InputError: no such file.
    """
    if named is not None:
        for model_file in model_files:
            if named in (model_file.path, Path(model_file.path.name)) or named.resolve() == model_file.path.resolve():
                return model_files, model_file
        if not named.exists():
            known = ", ".join(model_file.path.name for model_file in model_files)
            raise InputError(f"--reference {named}: no such file (measured are: {known})")
        added = _peer_file(named)
        return [*model_files, added], added
    for model_file in model_files:
        if model_file.manifest is None and model_file.path.name == DEFAULT_PEER:
            return model_files, model_file
    plain = [
        model_file for model_file in model_files if model_file.channels == "rgb" and _computes_in_float(model_file)
    ]
    # the TFLite files first, which the others are derived from on the phone; fp32 is made for tables alone
    plain.sort(key=lambda model_file: (model_file.path.suffix != ".tflite", model_file.recipe != "fp32"))
    return model_files, plain[0] if plain else None


def _computes_in_float(model_file: ModelFile) -> bool:
    """True of what a CPU computes in float32: weights in float16 are unpacked when a .tflite is opened."""
    return model_file.recipe == "fp32" or (model_file.recipe == "fp16" and model_file.path.suffix == ".tflite")


def _listed_files(path: Path, record: manifest.Manifest) -> list[ModelFile]:
    manifest.verify(record, path.parent)
    return [
        ModelFile(
            path.parent / entry.path,
            entry.model,
            entry.recipe,
            entry.channels,
            entry.bytes,
            path,
            entry.sha256,
            "; ".join(_gpu_words(check) for check in entry.gpu) or None,
            "; ".join(_arm_words(check) for check in entry.arm) or None,
            record.source.refine,
        )
        for entry in record.files
    ]


def _gpu_words(check: manifest.GpuCheck) -> str:
    """`litert_swiftshader passed 63/63`: operators on the GPU of all."""
    nodes = f" {check.delegated}/{check.nodes}" if check.delegated is not None and check.nodes is not None else ""
    return f"{check.route} {check.verdict}{nodes}"


def _arm_words(check: manifest.ArmCheck) -> str:
    """`cortex-a76 passed 22.2 M 0.55`: millions of instructions, and their ratio to the reference file's."""
    count = f" {check.instructions / 1e6:.1f} M" if check.instructions is not None else ""
    ratio = f" {check.ratio_to_reference:.2f}" if check.ratio_to_reference is not None else ""
    return f"{check.core} {check.verdict}{count}{ratio}"


def collect_peers(folder: Path) -> list[ModelFile]:
    """The .tflite files of a folder.

    Raises:
        InputError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise InputError(f"PEERS {folder}: no such folder: give one that holds .tflite files")
    paths = sorted(folder.glob("*.tflite"))
    if not paths:
        raise InputError(f"PEERS {folder}: no .tflite file in it: put some there, or leave PEERS out")
    return [_peer_file(path) for path in paths]


def _peer_file(path: Path) -> ModelFile:
    if not path.name.isprintable():
        # tables have a line a file
        raise InputError(f"{path}: its name has a line break or the like: rename it")
    return ModelFile(path, path.stem, FOREIGN, None, files.size_bytes(path))
