"""apps/android: compiled without a warning, and run on a JVM against the real LiteRT in a Python process.

Android itself and LiteRT's Kotlin are stand-ins (apps/android/tests/standins). Their names and numbers of arguments are
compared with Android's own API; that of LiteRT was read off its sources, whose commits stand beside them.
"""

import ast
import functools
import importlib.util
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from export.publishing import sources
from portraitseg import contract
from portraitseg.segment.segmenter import Segmenter
from portraitseg.synthetic import portraits
from tests.apps import jvm

STANDINS = sorted(path for name in ("standins", "sample") for path in (jvm.ANDROID / "tests" / name).glob("*.kt"))

APP = jvm.SAMPLE / "app"

#: Tests of which the JVM is to report, lest one be lost.
GROUPS = (
    "vectors: ",
    "golden portrait",
    "no GPU",
    "a wrong mask",
    "every turn",
    "closing",
    "another thread",
    "bitmaps",
)


@pytest.mark.full
def test_the_suite_on_the_jvm(tmp_path: Path) -> None:
    result = jvm.run(jvm.ROOT / "docs/vectors.json", jvm.ASSETS, tmp_path, "")
    assert result.returncode == 0, result.stdout + result.stderr
    passed = [line for line in result.stdout.splitlines() if line.startswith("ok ")]
    assert all(any(line.startswith(f"ok {group}") for line in passed) for group in GROUPS)
    assert f"{len(passed)} passed, 0 failed" in result.stdout


@pytest.mark.full
def test_a_warning_and_a_fault_stop_the_compiler(tmp_path: Path) -> None:
    jvm.skip_unless_there()
    source = tmp_path / "Damaged.kt"
    source.write_text('fun main() {\n    val unused: Int = "text"\n}\n')
    assert "Damaged.kt:2" in jvm.build([source], tmp_path / "damaged.jar")


@pytest.mark.full
@pytest.mark.parametrize("engine", ["GPU", "CPU"])
def test_masks_and_mattes_are_pythons(engine: str, tmp_path: Path) -> None:
    """Photos larger, smaller, wider and higher than the network, from pixels to the refined matte."""
    sizes = [(720, 960), (512, 512), (300, 256), (200, 300), (120, 90), (1024, 768), (640, 250)]
    images = [portraits.render(index, size)[0] for index, size in enumerate(sizes)]
    # whole factors, one pixel more, less, and nearly none: noise shows each rounding
    noisy = [(512, 768), (768, 1024), (257, 257), (255, 400), (400, 256), (1, 1), (3, 500)]
    generator = np.random.default_rng(3)
    images += [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in noisy]
    for index, image in enumerate(images):
        head = struct.pack("<ii", image.shape[1], image.shape[0])
        (tmp_path / f"{index}.rgb").write_bytes(head + np.ascontiguousarray(image).tobytes())
    result = jvm.run("photos", jvm.ASSETS, tmp_path, engine)
    assert result.returncode == 0, result.stderr
    name = {"GPU": "rgb-fp16", "CPU": "rgba-qat_wi8_ai8_u8"}[engine]
    segmenter = Segmenter(jvm.ASSETS / f"selfie_general-256x256-{name}.tflite")
    for index, image in enumerate(images):
        probability = np.fromfile(tmp_path / f"{index}.probability", np.float32).reshape(256, 256)
        # the same pixels, the same file, the same runtime: the same numbers
        np.testing.assert_array_equal(probability, segmenter.predict(image))
        alpha = np.fromfile(tmp_path / f"{index}.alpha", np.uint8).reshape(image.shape[:2])
        expected = segmenter.segment(image).alpha
        difference = np.abs(alpha.astype(np.float32) / 255 - expected)
        # half a byte, and sums of float32 in another order; a piece near the limit of a speck may stay or go
        assert np.median(difference) <= 0.5 / 255 + 1e-6 and difference.mean() < 0.5 / 255
        flipped = (contract.truth_to_mask(alpha) != (expected > contract.PROBABILITY_THRESHOLD)).mean()
        assert flipped < 0.001, f"{image.shape}: {flipped:.3%}"


def test_gradle_files_agree_with_the_released_folder_and_the_sources() -> None:
    """No Gradle runs here: what its files name is there, and what they say twice they say alike."""
    whole, app = (
        path.read_text(encoding="utf-8") for path in (jvm.SAMPLE / "build.gradle.kts", APP / "build.gradle.kts")
    )
    assert re.findall(r'id\("([\w.]+)"\)', app) == re.findall(r'id\("([\w.]+)"\) version', whole) != []
    settings = (jvm.SAMPLE / "settings.gradle.kts").read_text(encoding="utf-8")
    assert re.findall(r'include\(":(\w+)"\)', settings) == [APP.name]
    properties = dict(re.findall(r"^([\w.]+)=(.+)$", (jvm.SAMPLE / "gradle.properties").read_text(), re.MULTILINE))
    folder = (jvm.SAMPLE / properties["portrait.folder"]).resolve()
    assert folder == jvm.ASSETS
    # what the sources open is among what is copied, once each
    spec = (folder / "kotlin/portrait/PortraitModel.kt").read_text(encoding="utf-8")
    opened = set(re.findall(r'(?:File|golden\w+) = "([^"]+)"', spec))
    patterns = re.findall(r'"([^"]+)"', re.search(r"include\(([^)]*)\)", app)[1])  # type: ignore[index]
    copied = {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}
    assert opened <= copied and len(opened) == 5
    assert {name for name in copied if name.endswith(".tflite")} == {
        name for name in opened if name.endswith(".tflite")
    }
    assert f'resolve("{sources.KOTLIN}/portrait")' in app
    # the README of each released folder names the same packages and the same least Android
    readme = (folder / "README.md").read_text(encoding="utf-8")
    litert = re.findall(r'implementation\("(com\.google\.ai\.edge\.litert:[^"]+)"\)', app)
    assert len(litert) == 2 and all(f'implementation("{name}")' in readme for name in litert)
    assert re.search(r"minSdk = \d+", app)[0] in readme  # type: ignore[index]
    (namespace,) = re.findall(r'namespace = "([\w.]+)"', app)
    manifest = ElementTree.parse(APP / "src/main/AndroidManifest.xml").getroot()
    android = "{http://schemas.android.com/apk/res/android}"
    (activity,) = manifest.iter("activity")
    source = (
        APP / f"src/main/kotlin/{namespace.replace('.', '/')}{activity.attrib[android + 'name'].replace('.', '/')}.kt"
    )
    assert f"package {namespace}\n" in source.read_text(encoding="utf-8")
    permissions = {entry.attrib[android + "name"] for entry in manifest.iter("uses-permission")}
    assert permissions == {"android.permission.CAMERA"}


def test_standins_have_androids_signatures() -> None:
    """Every method of a stand-in in `android.*` is Android's, with as many arguments; hooks are named so."""
    checked = 0
    for path in STANDINS:
        text = path.read_text(encoding="utf-8")
        (package,) = re.findall(r"^package ([\w.]+)", text, re.MULTILINE)
        if not package.startswith("android."):
            continue
        known = _api(package)
        for owner, name, count in _declared(text):
            if name.startswith("hook") or name == "readable":
                continue
            assert count in known[owner].get(name, set()), f"{package}.{owner}.{name} with {count} arguments"
            checked += 1
    assert checked >= 35


def test_a_signature_that_is_not_androids_is_found() -> None:
    known = _api("android.graphics")["Bitmap"]
    assert known["getPixels"] == {7} and "getPixel2" not in known
    assert 4 in known["createBitmap"] and 9 not in known["createBitmap"]


def _declared(text: str) -> list[tuple[str, str, int]]:
    """(class, method, number of arguments) of every `fun`, and of every property as its getter and setter."""
    owner, members = "", []
    # a nested interface is another owner
    for line in re.sub(r"^    fun interface .*?^    }$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines():
        if named := re.match(r"(?:abstract |open )?(?:class|object) (\w+)", line):
            owner = named[1]
            for name in re.findall(r"(?<!private )\bval (\w+):", line.split(") {")[0]):
                members.append((owner, f"get{name[0].upper()}{name[1:]}", 0))
        elif held := re.match(r"    (?:abstract )?(va[lr]) (\w+):", line):
            name = f"{held[2][0].upper()}{held[2][1:]}"
            members += [(owner, f"get{name}", 0), (owner, f"set{name}", 1)][: 1 + (held[1] == "var")]
        elif declared := re.match(r"\s+(?:(?:override|abstract|protected|open) )*fun (\w+)\(([^)]*)\)", line):
            arguments = [part for part in declared[2].split(",") if ":" in part]
            members.append((owner, declared[1], len(arguments)))
    return members


@functools.cache
def _api(package: str) -> dict[str, dict[str, set[int]]]:
    """Class → method → the numbers of arguments that Android's API has, from the stubs of the SDK."""
    spec = importlib.util.find_spec("android-stubs")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("stand-ins not compared with Android's API: `pip install chaquopy-stubs-android` (group dev)")
    folder = Path(spec.submodule_search_locations[0]).joinpath(*package.split(".")[1:])
    api: dict[str, dict[str, set[int]]] = {}
    for node in ast.parse((folder / "__init__.pyi").read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        methods = api.setdefault(node.name, {})
        for item in node.body:
            if isinstance(item, ast.FunctionDef):
                is_static = any(getattr(mark, "id", "") == "staticmethod" for mark in item.decorator_list)
                count = len(item.args.posonlyargs) + len(item.args.args) - (not is_static)
                methods.setdefault(item.name, set()).add(count)
    return api
