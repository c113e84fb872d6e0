"""What an app compiles beside the released files: the sources of apps/, and one file of constants from the manifest.

The sources are copied as they are; whatever differs from run to run stands in the generated `PortraitModel.kt` or
`PortraitModel.swift`. `python -m export check-assets` compares both with what would be written today.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from export.publishing.golden import FLIPPED_SHARE, FOLDER, INDEX, MEAN_STEPS, PORTRAIT
from portraitseg import files
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import FileEntry, Manifest
from portraitseg.refine import EdgeRefiner
from portraitseg.smooth import MaskSmoother

APPS = Path(__file__).parents[2] / "apps"

#: In a folder of assets: where the sources lie, by platform.
KOTLIN, SWIFT = "kotlin", "swift"

#: Of a folder of assets → where its content comes from.
_COPIED: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    KOTLIN: (("portrait", "android/portrait", "*.kt"), ("shaders", "android/shaders", "matte.*")),
    SWIFT: (("Portrait", "ios/Sources/Portrait", "*.swift"),),
}

#: Generated in the middle of them.
_MODEL = {KOTLIN: "portrait/PortraitModel.kt", SWIFT: "Portrait/PortraitModel.swift"}


def write(folder: Path, listed: Manifest, recommended: Mapping[str, str]) -> bool:
    """Writes the sources into a folder of assets anew.

    Args:
        folder: of the assets, with golden vectors.
        listed: its manifest.
        recommended: device class → path of the file to take.

    Returns:
        False: it does not hold the files that the sources run (on Android one for the GPU and one of RGBA bytes); there
        are no sources then.
    """
    clear(folder)
    expected = make(folder, listed, recommended)
    for name, text in expected.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / name, text)
    return bool(expected)


def clear(folder: Path) -> None:
    """Takes the sources away: they tell of files that change."""
    for name in _COPIED:
        files.remove(folder / name)


def present(folder: Path) -> set[str]:
    """Paths inside the folder of all sources that it has; an export leaves none."""
    return {
        path.relative_to(folder).as_posix() for name in _COPIED for path in (folder / name).rglob("*") if path.is_file()
    }


def check(folder: Path, listed: Manifest, recommended: Mapping[str, str]) -> int:
    """Compares a folder's sources with those of this clone and with the manifest's constants.

    Returns:
        How many there are.

    Raises:
        CheckFailed: one that is missing, changed, or too many.
    """
    there, expected = present(folder), make(folder, listed, recommended)
    wrong = there ^ set(expected)
    wrong |= {name for name in there & set(expected) if (folder / name).read_bytes() != expected[name].encode()}
    if wrong:
        raise CheckFailed(
            f"{folder}: {', '.join(sorted(wrong))}: not what apps/ and the manifest say: "
            f"run `python -m export handout {folder}`"
        )
    return len(expected)


def make(folder: Path, listed: Manifest, recommended: Mapping[str, str]) -> dict[str, str]:
    """Path inside the folder → content, for all sources; empty where the files for them are not all there."""
    platform_and_model = _kotlin(folder, listed, recommended) or _swift(folder, listed, recommended)
    if platform_and_model is None:
        return {}
    platform, model = platform_and_model
    copied = {
        f"{platform}/{subfolder}/{path.name}": path.read_text(encoding="utf-8")
        for subfolder, source, pattern in _COPIED[platform]
        for path in sorted((APPS / source).glob(pattern))
    }
    return {**copied, f"{platform}/{_MODEL[platform]}": model}


def android_files(listed: Manifest, recommended: Mapping[str, str]) -> tuple[FileEntry, FileEntry] | None:
    """The files that the Kotlin runs: RGB floats for the GPU, RGBA bytes for the CPU."""
    by_path = {entry.path: entry for entry in listed.files}
    gpu = by_path.get(recommended.get("gpu", ""))
    cpu = next((entry for entry in listed.files if entry.channels == "rgba" and entry.input.dtype == "uint8"), None)
    if gpu is None or cpu is None or (gpu.channels, gpu.input.dtype, gpu.output.dtype) != ("rgb", "float32", "float32"):
        return None
    # a mask of bytes whose zero point is another than 0 is none of ours
    return (gpu, cpu) if cpu.output.dtype == "uint8" and cpu.output.scale and not cpu.output.zero_point else None


def _golden_mask(folder: Path, entry: FileEntry) -> str:
    try:
        name = json.loads((folder / FOLDER / INDEX).read_text())["masks"][entry.path]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / FOLDER / INDEX}: no golden mask of {entry.path}: export the run again") from error
    return f"{FOLDER}/{name}"


def _refiner(listed: Manifest) -> EdgeRefiner:
    chosen = listed.source.refine
    return EdgeRefiner(**chosen.parameters) if chosen else EdgeRefiner()


def _smoother(listed: Manifest) -> MaskSmoother:
    chosen = listed.source.smooth
    return MaskSmoother(**chosen.parameters) if chosen else MaskSmoother()


def _kotlin(folder: Path, listed: Manifest, recommended: Mapping[str, str]) -> tuple[str, str] | None:
    pair = android_files(listed, recommended)
    if pair is None:
        return None
    gpu, cpu = pair
    height, width = gpu.input.shape[1:3]
    refine, smooth = _refiner(listed), _smoother(listed)
    text = f"""\
package portrait

// Generated from manifest.json by `python -m export handout`; a change here is lost, and check-assets notices it.
object PortraitModel {{
    @JvmField
    val SPEC = ModelSpec(
        name = "{listed.source.model}",
        width = {width},
        height = {height},
        gpuFile = "{gpu.path}",
        cpuFile = "{cpu.path}",
        cpuScale = {_number(cpu.output.scale)}f,
        goldenPortrait = "{FOLDER}/{PORTRAIT}",
        goldenGpu = "{_golden_mask(folder, gpu)}",
        goldenCpu = "{_golden_mask(folder, cpu)}",
        meanSteps = {_number(MEAN_STEPS)}f,
        flippedShare = {_number(FLIPPED_SHARE)}f,
        makeRefiner = {{
            EdgeRefiner(
                side = {refine.side},
                radius = {refine.radius},
                epsilon = {_number(refine.epsilon)}f,
                low = {_number(refine.low)}f,
                high = {_number(refine.high)}f,
                specks = {_number(refine.specks)}f,
                holes = {_number(refine.holes)}f,
            )
        }},
        makeSmoother = {{
            MaskSmoother(
                keep = {_number(smooth.keep)}f,
                low = {_number(smooth.low)}f,
                high = {_number(smooth.high)}f,
                reach = {smooth.reach},
                cut = {_number(smooth.cut)}f,
                gapS = {_number(smooth.gap_s)},
            )
        }},
    )
}}
"""
    return KOTLIN, text


def _swift(folder: Path, listed: Manifest, recommended: Mapping[str, str]) -> tuple[str, str] | None:
    entry = {entry.path: entry for entry in listed.files}.get(recommended.get("gpu", ""))
    if entry is None or not entry.path.endswith(".mlpackage") or entry.output.dtype != "image":
        return None
    height, width = entry.input.shape[1:3]
    refine, smooth = _refiner(listed), _smoother(listed)
    text = f"""\
// Generated from manifest.json by `python -m export handout`; a change here is lost, and check-assets notices it.
public enum PortraitModel {{
    public static let spec = ModelSpec(
        name: "{listed.source.model}",
        width: {width},
        height: {height},
        resource: "{Path(entry.path).stem}",
        input: "{entry.input.name}",
        output: "{entry.output.name}",
        goldenPortrait: "{PORTRAIT}",
        goldenMask: "{Path(_golden_mask(folder, entry)).name}",
        meanSteps: {_number(MEAN_STEPS)},
        flippedShare: {_number(FLIPPED_SHARE)},
        refine: RefineSettings(
            side: {refine.side}, radius: {refine.radius}, epsilon: {_number(refine.epsilon)},
            low: {_number(refine.low)}, high: {_number(refine.high)},
            specks: {_number(refine.specks)}, holes: {_number(refine.holes)}
        ),
        smooth: SmoothSettings(
            keep: {_number(smooth.keep)}, low: {_number(smooth.low)}, high: {_number(smooth.high)},
            reach: {smooth.reach}, cut: {_number(smooth.cut)}, gapS: {_number(smooth.gap_s)}
        )
    )
}}
"""
    return SWIFT, text


def _number(value: float | None) -> str:
    """A decimal that Kotlin and Swift read as this float."""
    text = repr(float(value or 0))
    return text if "e" not in text else f"{float(value or 0):.12f}".rstrip("0")
