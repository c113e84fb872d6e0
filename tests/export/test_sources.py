"""Sources in a folder of assets: those of apps/, with the manifest's constants, or the folder is refused."""

import re
import shutil
from pathlib import Path

import pytest

from export.publishing import handout, sources
from portraitseg import manifest
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import Manifest
from portraitseg.tflite import metadata

ROOT = Path(__file__).parents[2]
RELEASED = sorted([*ROOT.glob("android_assets/*/manifest.json"), *ROOT.glob("ios_assets/*/manifest.json")])


@pytest.fixture(params=["android_assets/selfie_general/kotlin/portrait", "ios_assets/selfie_general/swift/Portrait"])
def app_sources(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The sources in a copy of a released folder."""
    platform, run, *rest = request.param.split("/")
    shutil.copytree(ROOT / platform / run, tmp_path / run)
    return (tmp_path / run).joinpath(*rest)


def test_a_copy_is_sound_and_writing_it_anew_changes_nothing(app_sources: Path) -> None:
    folder = app_sources.parents[1]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert handout.check(folder) >= 8
    assert handout.rewrite(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_every_released_folder_has_its_sources(path: Path) -> None:
    assert handout.check(path.parent) >= 8


def test_a_changed_constant_a_lost_and_a_stray_source_are_found(app_sources: Path) -> None:
    folder = app_sources.parents[1]
    (model,) = app_sources.glob("PortraitModel.*")
    text = model.read_text()
    model.write_text(re.sub(r"width([ =:]+)256", r"width\g<1>224", text))
    with pytest.raises(CheckFailed, match=rf"{model.name}: .*export handout"):
        handout.check(folder)
    model.write_text(text)
    (app_sources / f"Stray{model.suffix}").write_text("")
    with pytest.raises(CheckFailed, match="Stray"):
        handout.check(folder)
    (app_sources / f"Stray{model.suffix}").unlink()
    (app_sources / f"MaskMath{model.suffix}").unlink()
    with pytest.raises(CheckFailed, match="MaskMath"):
        handout.check(folder)
    handout.rewrite(folder)
    assert handout.check(folder) >= 8


def test_labels_are_those_that_the_files_carry(app_sources: Path) -> None:
    folder = app_sources.parents[1]
    labels = folder / metadata.LABELS_NAME
    assert labels.read_text() == "person\n"
    labels.write_text("background\nperson\n")
    with pytest.raises(CheckFailed, match=r"labels\.txt: .*export handout"):
        handout.check(folder)
    labels.unlink()
    with pytest.raises(CheckFailed, match=r"labels\.txt"):
        handout.check(folder)
    handout.rewrite(folder)
    handout.check(folder)
    if files := sorted(folder.glob("*.tflite")):
        files[0].write_bytes(files[0].read_bytes().replace(b"person\n", b"animal\n"))
        with pytest.raises(CheckFailed, match=r"labels\.txt"):
            handout.check(folder)


def test_constants_are_the_manifests(app_sources: Path) -> None:
    folder = app_sources.parents[1]
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    refine, smooth = listed.source.refine, listed.source.smooth
    assert refine and smooth
    (text,) = [path.read_text() for path in app_sources.glob("PortraitModel.*")]
    for name, value in (("radius", refine.radius), ("epsilon", refine.epsilon), ("keep", smooth.keep)):
        assert re.search(rf"{name}[ =:]+{value}", text), name
    # chosen anew, the constants follow
    chosen = listed.source.model_copy(update={"refine": refine.model_copy(update={"radius": 7, "epsilon": 1e-5})})
    made = sources.make(folder, listed.model_copy(update={"source": chosen}), handout.read_recommended(folder))
    (text,) = [text for name, text in made.items() if "PortraitModel" in name]
    assert re.search(r"radius[ =:]+7", text) and re.search(r"epsilon[ =:]+0\.00001", text)


def test_without_the_files_that_they_run_there_are_no_sources(app_sources: Path) -> None:
    folder = app_sources.parents[1]
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    few = listed.model_copy(update={"files": tuple(entry for entry in listed.files if entry.channels != "rgba")})
    recommended = handout.read_recommended(folder)
    if folder.joinpath("kotlin").exists():
        assert not sources.write(folder, few, recommended) and not app_sources.exists()
    else:
        assert not sources.write(folder, listed, {}) and not app_sources.exists()
    assert handout.check(folder) == 0


def test_a_damaged_recommendation_is_bad_input(app_sources: Path) -> None:
    folder = app_sources.parents[1]
    (folder / manifest.RECOMMENDED_NAME).write_text("[]")
    with pytest.raises(InputError, match=r"recommended\.json"):
        handout.check(folder)
