"""README.md of a released folder: which file an app takes, how its sources get there, and lines that run it without.

Everything that differs from run to run (names, sizes, scales, scores, licences) comes from the manifest. The sources
are those of apps/, which the tests compile; the lines for an app that does without them follow the public documentation
of LiteRT and Vision, and nothing here can compile them.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from export.publishing import sources
from export.publishing.golden import FLIPPED_SHARE, FOLDER, INDEX, MEAN_STEPS, PORTRAIT
from portraitseg import files, manifest, terms
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import HANDOUT_NAME, FileEntry, Manifest
from portraitseg.tflite import metadata

#: Of the Android packages: as the ai-edge-litert that the files were checked with.
_LITERT = "2.3.0"

_KINDS = {"gpu": "GPU", "cpu": "CPU", "old": "old phones"}


def write(folder: Path, listed: Manifest, recommended: dict[str, str]) -> None:
    """Writes `folder`/README.md and labels.txt, the one that each .tflite carries too.

    Args:
        folder: of the assets.
        listed: its manifest.
        recommended: device class → path of the file to take.
    """
    by_path = {entry.path: entry for entry in listed.files}
    is_android = any(path.endswith(".tflite") for path in by_path)
    drop_in = _drop_in_android(listed, recommended) if is_android else _drop_in_ios(by_path, recommended)
    sections = [
        f"# {listed.source.model}\n\nA mask of the person in a photo. `manifest.json` has every figure and hash, "
        f"`{metadata.LABELS_NAME}` one line a channel of the mask: {', '.join(metadata.LABELS)}.",
        _licences(listed),
        _table(listed, recommended),
        *([drop_in] if drop_in else []),
        *(_android(by_path, recommended) if is_android else _ios(by_path, recommended)),
        _pixels(listed.files[0], is_android),
        _golden(listed.files[0]),
    ]
    files.write_text(folder / HANDOUT_NAME, "\n\n".join(sections) + "\n")
    files.write_text(folder / metadata.LABELS_NAME, metadata.LABELS_TEXT)


def clear(folder: Path) -> None:
    """Takes both away, and the sources: they tell of files that change."""
    for name in (HANDOUT_NAME, metadata.LABELS_NAME):
        files.remove(folder / name)
    sources.clear(folder)


def rewrite(folder: Path) -> bool:
    """Writes README.md, labels.txt and the sources of a folder of assets anew, from its manifest and from apps/.

    Returns:
        Whether it has sources.

    Raises:
        InputError: no manifest, no recommended.json or no golden vectors that could be read.
    """
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    recommended = read_recommended(folder)
    with files.revising(folder) as revised:
        write(revised, listed, recommended)
        return sources.write(revised, listed, recommended)


def check(folder: Path) -> int:
    """How many sources of a folder are as they should be, 0 where it has none; see `sources.check`.

    Raises:
        CheckFailed: a source or a constant that differs, or labels.txt that is not what the .tflite files carry.
    """
    if not sources.present(folder):
        return 0
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    _check_labels(folder, listed)
    return sources.check(folder, listed, read_recommended(folder))


def _check_labels(folder: Path, listed: Manifest) -> None:
    path = folder / metadata.LABELS_NAME
    labels = path.read_text(encoding="utf-8") if path.is_file() else None
    carried = {metadata.read_labels(folder / entry.path) for entry in listed.files if entry.path.endswith(".tflite")}
    if labels != metadata.LABELS_TEXT or not carried <= {labels}:
        raise CheckFailed(f"{path}: not the labels of the files: run `python -m export handout {folder}`")


def read_recommended(folder: Path) -> dict[str, str]:
    """recommended.json: device class → path.

    Raises:
        InputError: missing, or something else.
    """
    path = folder / manifest.RECOMMENDED_NAME
    try:
        recommended = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}): export the run again") from error
    if not isinstance(recommended, dict) or not all(isinstance(value, str) for value in recommended.values()):
        raise InputError(f"{path}: not one file for each class of device: export the run again")
    return recommended


def _table(listed: Manifest, recommended: dict[str, str]) -> str:
    splits = list(dict.fromkeys(score.split for entry in listed.files for score in entry.quality))
    lines = ["| File | Take it for | MB | Input | Output |" + "".join(f" IoU / boundary {split} |" for split in splits)]
    lines.append("|---|---|--:|---|---|" + "--:|" * len(splits))
    bitmap = _of_bitmaps(listed.files)
    for entry in listed.files:
        kinds = [_KINDS.get(kind, kind) for kind, path in recommended.items() if path == entry.path]
        if entry is bitmap:
            kinds.append("CPU, a `Bitmap`'s bytes")
        if entry.recipe == "fp16acc16":
            kinds.append("CPU, float in half precision")
        uses = ", ".join(kinds)
        scores = {score.split: f" {100 * score.iou:.2f} / {100 * score.boundary_iou:.2f} |" for score in entry.quality}
        lines.append(
            f"| `{entry.path}` | {uses} | {entry.bytes / 1e6:.2f} | {_tensor(entry, is_input=True)} |"
            f" {_tensor(entry, is_input=False)} |" + "".join(scores.get(split, " |") for split in splits)
        )
    return "\n".join(lines)


def _tensor(entry: FileEntry, is_input: bool) -> str:
    tensor = entry.input if is_input else entry.output
    shape = "×".join(map(str, tensor.shape))
    return f"{shape} {tensor.dtype}" + (f" {tensor.color}" if is_input and tensor.color else "")


def _drop_in_android(listed: Manifest, recommended: Mapping[str, str]) -> str | None:
    pair = sources.android_files(listed, recommended)
    if pair is None:
        return None
    gpu, cpu = pair
    return f"""\
## Into an app

1. Copy `{gpu.path}`, `{cpu.path}` and the folder `{FOLDER}/` to `app/src/main/assets/`.
2. Copy `{sources.KOTLIN}/portrait/` to `app/src/main/kotlin/`. `PortraitModel.kt` has these files' names and numbers.
3. In `app/build.gradle.kts`: `minSdk = 24`, and `implementation("com.google.ai.edge.litert:litert:{_LITERT}")` and
   `implementation("com.google.ai.edge.litert:litert-gpu:{_LITERT}")`.

```kotlin
import portrait.PortraitSegmenter

val segmenter = PortraitSegmenter.create(context)  // the thread that makes it owns it
val matte = segmenter.segment(bitmap, rotationDegrees = 0, mirrored = false)
imageView.setImageBitmap(matte.cutout(bitmap))
segmenter.close()
```

It takes the GPU, proves it by the golden portrait, and otherwise takes the CPU with one line in the log. For a camera
there is `segmentFrame`, steady over time; a whole app of one screen is `apps/android/sample/` in the repository.
`{sources.KOTLIN}/shaders/` holds the last step, alpha at the photo's size, for AGSL and OpenGL ES. Our tests compile
these sources and the app, and run the sources against LiteRT on a computer, the shaders in Skia and WebGL2. Nothing was
tried on a phone, nor in Android Studio."""


def _drop_in_ios(by_path: Mapping[str, FileEntry], recommended: Mapping[str, str]) -> str | None:
    path = recommended.get("gpu", "")
    if path not in by_path or not path.endswith(".mlpackage"):
        return None
    return f"""\
## Into an app

1. Drag `{path}`, the folder `{FOLDER}/` and `{sources.SWIFT}/Portrait/` into the Xcode project (iOS 15), into the
   app's target.
2. `PortraitModel.swift` holds the names and numbers of these files.
3. For a camera, give the target's Info the key `NSCameraUsageDescription` with a sentence: without it iOS ends the app.

```swift
let segmenter = try PortraitSegmenter(spec: PortraitModel.spec)
let matte = try segmenter.segment(photo, orientation: orientation)  // from the photo's metadata
let person = try matte.cutout(of: photo, orientation: orientation, spec: PortraitModel.spec)  // a CGImage
```

It proves itself by the golden portrait when it is made. For a camera there is `segmentFrame`, steady over time; a whole
app of one screen is `apps/ios/Sample/` in the repository, with its steps in `docs/apps.md`. `CoreMLPortraitSegmenter`
does without Vision. The part that imports nothing of Apple's has tests for `swift test`. No Swift compiler was at hand:
grammar was checked, types were not, and nothing was tried in Xcode or on a phone."""


def _android(by_path: dict[str, FileEntry], recommended: dict[str, str]) -> list[str]:
    path = recommended.get("gpu")
    on_gpu = path if path in by_path and by_path[path].input.dtype == "float32" else None
    bitmap = _of_bitmaps(by_path.values())
    shown = by_path[on_gpu] if on_gpu else bitmap
    if shown is None:
        return []
    sections = [_shrinking(shown)]
    if on_gpu:
        sections.append(_compiled_model(on_gpu, by_path[on_gpu], recommended.get("cpu", on_gpu)))
    if bitmap:
        sections.append(_interpreter(bitmap))
    return sections


def _of_bitmaps(entries: Iterable[FileEntry]) -> FileEntry | None:
    """The file that takes an app's bitmap, RGBA bytes in memory, as it is."""
    return next((entry for entry in entries if entry.channels == "rgba" and entry.input.dtype == "uint8"), None)


def _shrinking(entry: FileEntry) -> str:
    height, width = entry.input.shape[1:3]
    return f"""\
## From a photo to the network's size

The Kotlin below follows LiteRT's documentation; it was not compiled here, nor run on a phone.

```kotlin
import android.graphics.Bitmap

/** The photo, upright already, stretched to {width}x{height} (not cropped). */
fun shrink(photo: Bitmap): Bitmap {{
    // bitmaps that a decoder left in the GPU's memory cannot be read
    var small = if (photo.config == Bitmap.Config.ARGB_8888) photo else photo.copy(Bitmap.Config.ARGB_8888, false)
    // bilinear sampling skips pixels beyond a factor of two: halve first
    while (small.width > 2 * {width} || small.height > 2 * {height}) {{
        val halfWidth = if (small.width > 2 * {width}) small.width / 2 else small.width
        val halfHeight = if (small.height > 2 * {height}) small.height / 2 else small.height
        small = Bitmap.createScaledBitmap(small, halfWidth, halfHeight, true)
    }}
    return Bitmap.createScaledBitmap(small, {width}, {height}, true)
}}
```"""


def _compiled_model(path: str, entry: FileEntry, on_cpu: str) -> str:
    height, width = entry.input.shape[1:3]
    return f"""\
## On the GPU

Copy `{path}`{f" and `{on_cpu}`" if on_cpu != path else ""} to `app/src/main/assets/`, and add to the app's
dependencies, from Google's Maven repository, `com.google.ai.edge.litert:litert:{_LITERT}` and
`com.google.ai.edge.litert:litert-gpu:{_LITERT}`: without the second there is no GPU. Then:

```kotlin
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException

val model = try {{
    CompiledModel.create(context.assets, "{path}", CompiledModel.Options(Accelerator.GPU), null)
}} catch (refused: LiteRtException) {{  // a device without a GPU that can
    CompiledModel.create(context.assets, "{on_cpu}", CompiledModel.Options(Accelerator.CPU), null)
}}
val inputs = model.createInputBuffers()
val outputs = model.createOutputBuffers()

/** Probability of person, {height} rows of {width}. */
fun mask(photo: Bitmap): FloatArray {{
    val pixels = IntArray({width} * {height})
    shrink(photo).getPixels(pixels, 0, {width}, 0, 0, {width}, {height})
    val rgb = FloatArray(3 * pixels.size)
    for (i in pixels.indices) {{
        rgb[3 * i] = (pixels[i] shr 16 and 255) / 255f
        rgb[3 * i + 1] = (pixels[i] shr 8 and 255) / 255f
        rgb[3 * i + 2] = (pixels[i] and 255) / 255f
    }}
    inputs[0].writeFloat(rgb)
    model.run(inputs, outputs)
    return outputs[0].readFloat()
}}
```"""


def _interpreter(entry: FileEntry) -> str:
    path = entry.path
    height, width = entry.input.shape[1:3]
    return f"""\
## On the CPU, a bitmap's bytes as they are

An `ARGB_8888` bitmap is RGBA in memory; the fourth channel of `{path}` changes nothing. With
`com.google.ai.edge.litert:litert:{_LITERT}` alone:

```kotlin
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.Interpreter

val file = context.assets.openFd("{path}").use {{
    FileInputStream(it.fileDescriptor).channel.map(FileChannel.MapMode.READ_ONLY, it.startOffset, it.declaredLength)
}}
val interpreter = Interpreter(file, Interpreter.Options().setNumThreads(2))
val input = ByteBuffer.allocateDirect(4 * {width} * {height}).order(ByteOrder.nativeOrder())
val output = ByteBuffer.allocateDirect({width} * {height}).order(ByteOrder.nativeOrder())

fun mask(photo: Bitmap): ByteBuffer {{
    input.rewind()
    shrink(photo).copyPixelsToBuffer(input)
    // both stand at their end now or after the run: without these nothing is read
    input.rewind()
    output.rewind()
    interpreter.run(input, output)
    output.rewind()
    return output  // probability of person = (byte.toInt() and 255) * {entry.output.scale or 1 / 256:g}f
}}
```"""


def _ios(by_path: dict[str, FileEntry], recommended: dict[str, str]) -> list[str]:
    path = recommended.get("gpu")
    if path not in by_path:
        return []
    old = recommended.get("old", path)
    for_old = f"; `{old}` for iOS 13" if old != path else ""
    return [
        f"""\
## With Vision

Drag `{path}` into the Xcode project (iOS 15{for_old}), and:

```swift
import CoreML
import Vision

let url = Bundle.main.url(forResource: "{Path(path).stem}", withExtension: "mlmodelc")!
let model = try VNCoreMLModel(for: MLModel(contentsOf: url))
let request = VNCoreMLRequest(model: model)
request.imageCropAndScaleOption = .scaleFill  // stretched, not cropped: as in training
// orientation: the photo's CGImagePropertyOrientation, from its metadata. A CGImage has none, and a photo on its side
// loses much of its mask; UIImage.imageOrientation has other raw values
try VNImageRequestHandler(cgImage: photo, orientation: orientation).perform([request])
let mask = (request.results?.first as? VNPixelBufferObservation)?.pixelBuffer  // a byte a pixel, 255 = person
```"""
    ]


def _pixels(entry: FileEntry, is_android: bool) -> str:
    height, width = entry.input.shape[1:3] if entry.input.layout == "NHWC" else entry.input.shape[-2:]
    range_ = (
        "byte / 255 for files of float32, the byte itself for those of uint8"
        if is_android
        else "bytes as they are: the file divides by 255 itself"
    )
    return f"""\
## Pixels

Turn the photo upright, stretch it to {width}×{height}, RGB, {range_}. No mean, no standard deviation, no BGR.
Where a photo is more than twice as large, halve it until it is not, or let the scaler average: bilinear sampling alone
skips pixels. Stretch the mask back to the photo (bilinear); person is where it is above one half."""


def _golden(entry: FileEntry) -> str:
    return f"""\
## Is my app right?

Feed `{FOLDER}/{PORTRAIT}` (drawn, nobody's photo) and compare with `{FOLDER}/<file>.png`: the mean difference is at
most {MEAN_STEPS:g} of 255, and at most {FLIPPED_SHARE:.0%} of the pixels lie on the other side of one half
(`{FOLDER}/{INDEX}`). Swapped channels, a forgotten scale and another normalisation are all beyond that.
In a clone of the repository, `.venv/bin/python -m export check-assets FOLDER` does so for a copy of this folder."""


def _licences(listed: Manifest) -> str:
    sets: dict[str, list[str]] = {}
    for data in listed.source.data:
        sets.setdefault(data.licence, []).append(data.set)
    for other in listed.source.derived_from:
        sets.setdefault(other.licence, []).append(other.name)
    named = "; ".join(f"{licence} ({', '.join(names)})" for licence, names in sets.items()) or "not stated"
    cited = list(dict.fromkeys(data.citation for data in listed.source.data if data.citation))
    citations = f" Cite: {'; '.join(cited)}." if cited else ""
    stamp = {"any": "", "unknown": "Commercial use is not cleared. ", "non-commercial": "**Not for commercial use.** "}
    return (
        f"**Licence**: {stamp[terms.use_of_source(listed.source)]}What the weights learnt from binds the use of these "
        f"files: {named}.{citations}"
    )
