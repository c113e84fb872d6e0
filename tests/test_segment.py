"""`Segmenter`: the contract without refinement, the outputs, other files than the released, and no TensorFlow."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from portraitseg import EdgeRefiner, MaskSmoother, Segmentation, Segmenter, contract
from portraitseg import __main__ as command
from portraitseg.errors import InputError
from portraitseg.runners import open_runner
from portraitseg.segment import released
from portraitseg.segment.segmenter import find_model
from portraitseg.synthetic import portraits as synthetic
from tests.runners.tiny import write_onnx

RELEASED = "contour_small"
FILE = Path(f"android_assets/{RELEASED}/{RELEASED}-256x256-rgb-qat_wi8_ai8.tflite")


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return synthetic.render(1, (300, 220))[0]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(RELEASED)


def made(alpha: np.ndarray, image: np.ndarray) -> Segmentation:
    return Segmentation(image, alpha, alpha)


def test_released_names_are_there(segmenter: Segmenter) -> None:
    assert {released.DEFAULT, "contour_large", "contour_medium", "contour_small"} <= set(released.names())
    # written out there, where nothing is imported before it is needed
    assert inspect.signature(command.segment).parameters["model"].default == released.DEFAULT
    assert segmenter.path.resolve() == FILE.resolve()
    assert Segmenter().path.parent.name == released.DEFAULT


def test_a_run_that_was_only_exported_is_found_but_not_among_the_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine", "kept"):
        shutil.copytree(FILE.parent, tmp_path / "assets" / name)
    (tmp_path / "assets/mine/README.md").unlink()
    monkeypatch.setattr(released, "_FOLDERS", (tmp_path / "packaged", tmp_path / "assets"))
    assert released.names() == ["kept"]
    assert released.find("mine") == tmp_path / "assets/mine" / FILE.name


def test_a_folder_with_the_name_of_a_network_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(RELEASED).mkdir()
    assert find_model(RELEASED) == released.find(RELEASED)


def test_without_refinement_it_is_the_contract(portrait: np.ndarray) -> None:
    result = Segmenter(RELEASED, refine=False).segment(portrait)
    probability = open_runner(FILE).predict(portrait)
    np.testing.assert_array_equal(result.probability, probability)
    np.testing.assert_array_equal(result.mask, contract.probability_to_mask(probability, portrait.shape[:2]))
    np.testing.assert_array_equal(result.alpha, contract.probability_to_alpha(probability, portrait.shape[:2]))


def test_refinement_is_that_of_the_manifest(segmenter: Segmenter, portrait: np.ndarray) -> None:
    result = segmenter.segment(portrait)
    assert segmenter.refiner is not None and result.alpha.shape == portrait.shape[:2] and not result.is_empty
    np.testing.assert_array_equal(result.alpha, segmenter.refiner(portrait, result.probability))
    chosen = Segmenter(RELEASED, refine=EdgeRefiner(radius=3)).segment(portrait)
    assert not np.array_equal(chosen.alpha, result.alpha)


def test_paths_and_pixels_are_the_same(segmenter: Segmenter, portrait: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), portrait[..., ::-1])
    from_path = segmenter.segment(tmp_path / "a.png")
    np.testing.assert_array_equal(from_path.alpha, segmenter.segment(portrait).alpha)
    cv2.imwrite(str(tmp_path / "b.png"), portrait[::-1, :, ::-1])
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "._a.png").write_bytes(b"what macOS leaves beside a.png")
    (tmp_path / "c.png").mkdir()
    listed = list(segmenter.segment_files([tmp_path, tmp_path / "a.png"]))
    assert [path.name for path, _ in listed] == ["a.png", "b.png", "a.png"]
    with pytest.raises(TypeError, match="give a list of paths"):
        next(segmenter.segment_files(str(tmp_path)))


def test_a_cutout_has_the_photo_and_alpha(segmenter: Segmenter, portrait: np.ndarray) -> None:
    result = segmenter.segment(portrait)
    cutout = result.cutout()
    np.testing.assert_array_equal(cutout[..., :3], portrait)
    np.testing.assert_array_equal(cutout[..., 3] > 127, result.mask)


def test_over_a_colour_and_a_picture(portrait: np.ndarray) -> None:
    alpha = np.zeros(portrait.shape[:2], np.float32)
    alpha[:100], alpha[100:200] = 1, 0.5
    result = made(alpha, portrait)
    green = result.over((0, 255, 0))
    np.testing.assert_array_equal(green[:100], portrait[:100])
    assert (green[200:] == (0, 255, 0)).all()
    half = (portrait[100:200].astype(float) + (0, 255, 0)) / 2
    assert np.abs(green[100:200] - half).max() <= 1
    wide = np.zeros((50, 400, 3), np.uint8)
    wide[:, 180:220] = 200  # what is in the middle of a picture that is too wide stays
    assert (result.over(wide)[210:, 90:130] == 200).all()


def test_a_blurred_background_has_no_halo() -> None:
    """A white person before black: an ordinary blur would leave a glow around it."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:80, 60:100] = 255
    alpha = (image[..., 0] > 0).astype(np.float32)
    blurred = made(alpha, image).blur(5.0)
    np.testing.assert_array_equal(blurred[alpha > 0], 255)
    ordinary = cv2.GaussianBlur(image, (0, 0), 5)
    assert blurred[alpha == 0].max() < 40 < 90 < ordinary[alpha == 0].max()
    with pytest.raises(ValueError, match="radius 0"):
        made(alpha, image).blur(0.0)
    # nobody, and nothing but a person
    assert made(np.zeros_like(alpha), image).blur().shape == image.shape
    np.testing.assert_array_equal(made(np.ones_like(alpha), image).blur(), image)


def test_frames_are_smoothed_and_a_new_video_begins_anew(segmenter: Segmenter, portrait: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    frames = [np.clip(portrait + generator.normal(0, 6, portrait.shape), 0, 255).astype(np.uint8) for _ in range(4)]
    plain = [one.probability for one in segmenter.segment_frames(frames, smooth=False)]
    steady = [one.probability for one in segmenter.segment_frames(frames, fps=25.0)]
    np.testing.assert_array_equal(plain[0], steady[0])
    assert np.abs(steady[3] - steady[2]).mean() < 0.5 * np.abs(plain[3] - plain[2]).mean()
    again = [one.probability for one in segmenter.segment_frames(frames, smooth=MaskSmoother(keep=0.0))]
    np.testing.assert_array_equal(again[3], plain[3])
    # a slide show: nothing is smoothed
    slow = [one.probability for one in segmenter.segment_frames(frames, fps=1.0)]
    np.testing.assert_array_equal(slow[3], plain[3])


def test_files_of_other_runtimes(portrait: np.ndarray, tmp_path: Path) -> None:
    """Core ML's are evaluated here; the refinement is that of the manifest beside them."""
    expected = Segmenter(RELEASED, refine=False).segment(portrait).mask
    for ending in ("fp16.mlpackage", "fp16.mlmodel"):
        segmenter_of_file = Segmenter(f"ios_assets/{RELEASED}/{RELEASED}-256x256-{ending}")
        assert segmenter_of_file.refiner == Segmenter(RELEASED).refiner
        assert (segmenter_of_file.segment(portrait).mask == expected).mean() > 0.98
    tiny = Segmenter(write_onnx(tmp_path / "m.onnx"), refine=False).segment(portrait)
    assert tiny.probability.shape == (8, 10) and tiny.alpha.shape == portrait.shape[:2]


def test_a_strangers_file_with_its_description(portrait: np.ndarray, tmp_path: Path) -> None:
    shutil.copy(FILE, tmp_path / "foreign.tflite")
    plain = Segmenter(tmp_path / "foreign.tflite", refine=False).segment(portrait)
    np.testing.assert_array_equal(plain.mask, Segmenter(FILE, refine=False).segment(portrait).mask)
    (tmp_path / "foreign.toml").write_text("invert = true")
    turned = Segmenter(tmp_path / "foreign.tflite", refine=False).segment(portrait)
    np.testing.assert_allclose(turned.probability, 1 - plain.probability, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("contour_huge", r"neither a file nor a released network \(those are: .*contour_medium"),
        ("nowhere.tflite", "no such file"),
        ("README.md", "no runtime for '.md'"),
        ("../../etc", "neither a file nor|no runtime"),
    ],
)
def test_models_that_are_none(model: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Segmenter(model)


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    for name in (FILE.name, "manifest.json"):
        shutil.copy(FILE.parent / name, tmp_path / name)
    (tmp_path / FILE.name).write_bytes(FILE.read_bytes() + b"x")
    with pytest.raises(InputError, match="SHA-256 differs"):
        Segmenter(tmp_path / FILE.name)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (4, 0, 3)])
def test_arrays_that_are_no_photo(segmenter: Segmenter, shape: tuple[int, ...]) -> None:
    with pytest.raises(Exception, match=r"give RGB pixels|without pixels|Type-check"):
        segmenter.segment(np.zeros(shape, np.uint8))


def test_no_tensorflow_on_the_way(portrait: np.ndarray, tmp_path: Path) -> None:
    """Nor any other heavy library: the path is that of `pip install portraitseg`."""
    cv2.imwrite(str(tmp_path / "a.png"), portrait[..., ::-1])
    code = f"""
import sys
from portraitseg.__main__ import app
try:
    app(["segment", {str(tmp_path / "a.png")!r}, "--out", {str(tmp_path / "out")!r}, "--output", "cutout"])
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = {{"tensorflow", "tf_keras", "keras", "onnx", "onnxruntime", "coremltools", "tensorflow_model_optimization",
          "h5py", "scipy", "train", "export", "benchmark", "av"}}
found = sorted(heavy & {{name.partition(".")[0] for name in sys.modules}})
assert not found, found
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out/a.png").exists()
