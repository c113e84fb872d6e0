"""`portraitseg segment` and `sheet`: what a user types, and what a user gets wrong."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from typer.testing import CliRunner

from portraitseg import cli
from portraitseg.__main__ import app
from portraitseg.errors import InputError
from portraitseg.segment import batch, pictures, released
from portraitseg.segment.info import describe
from portraitseg.segment.segmenter import Segmenter
from portraitseg.synthetic import portraits as synthetic
from tests.data.test_layout import heic
from tests.runners.tiny import write_onnx

SMALL = ["--model", "contour_small"]


def call(*arguments: object) -> str:
    """Runs the command; what it raises comes through. Returns what it wrote on stderr, in an error as its note."""
    result = CliRunner().invoke(app, [str(word) for word in arguments], standalone_mode=False)
    if result.exception is not None:
        result.exception.add_note(result.stderr)
        raise result.exception
    return result.stderr


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(3):
        image = synthetic.render(index, (120, 90))[0]
        Image.fromarray(image).save(folder / f"p{index}.jpg", quality=95)
    return folder


@pytest.mark.parametrize(
    ("output", "suffix", "mode"),
    [
        ("mask", ".png", "L"),
        ("alpha", ".png", "L"),
        ("cutout", ".png", "RGBA"),
        ("blur", ".jpg", "RGB"),
        ("replace", ".jpg", "RGB"),
    ],
)
def test_every_output_of_a_folder(portraits: Path, tmp_path: Path, output: str, suffix: str, mode: str) -> None:
    more = ["--background", "#ff8000"] if output == "replace" else []
    call("segment", portraits, "--out", tmp_path / "out", "--output", output, *more, *SMALL, "--threads", 2)
    made = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in made] == [f"p{index}{suffix}" for index in range(3)]
    for path in made:
        with Image.open(path) as picture:
            assert picture.mode == mode and picture.size == (90, 120)


def test_the_mask_is_the_contracts_without_refinement(portraits: Path, tmp_path: Path) -> None:
    call("segment", portraits / "p1.jpg", "--out", tmp_path / "m.png", "--no-refine", *SMALL)
    result = Segmenter("contour_small", refine=False).segment(portraits / "p1.jpg")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "m.png"), 0), result.mask * np.uint8(255))


def test_it_goes_on_and_overwrites_nothing(portraits: Path, tmp_path: Path) -> None:
    (tmp_path / "p1.png").write_bytes(b"mine")
    output = call("segment", portraits, "--out", tmp_path, *SMALL)
    assert (tmp_path / "p1.png").read_bytes() == b"mine" and (tmp_path / "p2.png").exists()
    assert "1 of 3 are there already" in output
    call("segment", portraits, "--out", tmp_path, *SMALL, "--overwrite")
    assert (tmp_path / "p1.png").read_bytes() != b"mine"


def test_patterns_and_a_picture_as_background(portraits: Path, tmp_path: Path) -> None:
    call("segment", f"{portraits}/p[01].jpg", "--out", tmp_path, *SMALL, "--output", "replace", "--background",
         portraits / "p2.jpg")  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p0.jpg", "p1.jpg"]


def test_rotation_and_colour_profile(portraits: Path, tmp_path: Path) -> None:
    """A phone's photo on its side, in another colour space: the cut-out is upright and says which space."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(portraits / "p1.jpg") as upright:
        exif = Image.Exif()
        exif[0x0112] = 6
        upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, icc_profile=profile)
    call("segment", tmp_path / "a.jpg", "--out", tmp_path / "a.png", "--output", "cutout", *SMALL)
    with Image.open(tmp_path / "a.png") as cutout:
        assert cutout.size == (90, 120) and cutout.info["icc_profile"] == profile


def test_a_background_only_photo_says_so(tmp_path: Path) -> None:
    Image.new("RGB", (80, 60), (20, 90, 160)).save(tmp_path / "sea.png")
    output = call("segment", tmp_path / "sea.png", "--out", tmp_path / "out", *SMALL)
    assert not cv2.imread(str(tmp_path / "out/sea.png"), 0).any()
    assert "nobody was found in it: the mask is empty" in output


def test_avif_is_read_and_heic_names_its_plugin(
    portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Image.open(portraits / "p1.jpg") as photo:
        photo.save(tmp_path / "a.avif")
    call("segment", tmp_path / "a.avif", "--out", tmp_path / "out", *SMALL)
    assert cv2.imread(str(tmp_path / "out/a.png"), 0).any()
    heic(tmp_path / "b.heic")
    monkeypatch.setattr("portraitseg.data.reading._plugins", dict)
    with pytest.raises(InputError, match=r"b\.heic: HEIC that cannot be read, .*`pip install pillow-heif`"):
        call("segment", tmp_path / "b.heic", "--out", tmp_path / "out", *SMALL)


def test_a_bad_photo_among_good_ones(portraits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in portraits.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "a_text.jpg").write_text("no photo")
    (folder / "cut.jpg").write_bytes((folder / "p0.jpg").read_bytes()[:1500])
    with pytest.raises(InputError, match="2 of 5 inputs could not be used") as caught:
        call("segment", folder, "--out", tmp_path / "out", *SMALL)
    message = caught.value.__notes__[0]
    assert "a_text.jpg: not a jpg, png or webp image" in message and "cut.jpg: truncated or damaged" in message
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


def _write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_what_cannot_be_is_one_line(portraits: Path, tmp_path: Path) -> None:
    one, out = portraits / "p0.jpg", tmp_path / "out"
    same = _write(tmp_path / "other/p0.png", one.read_bytes())
    empty = tmp_path / "empty"
    empty.mkdir()
    text = _write(tmp_path / "text.jpg")
    cases: list[tuple[list[object], str]] = [
        ([tmp_path / "nowhere.jpg"], "no such file or folder"),
        ([tmp_path / "no*.jpg"], "matches no photo or video"),
        ([empty], "no photos or videos in it"),
        ([tmp_path], r"text\.jpg|could not be used"),
        ([_write(tmp_path / "a.docx")], "neither a photo nor a video by its name"),
        ([text], "not a jpg, png or webp image"),
        ([one, same], "both would become"),
        ([one, "--output", "matte"], "choose one of mask, alpha"),
        ([one, "--output", "replace"], "needs a background"),
        ([one, "--background", "white"], "takes no background"),
        ([one, "--output", "replace", "--background", "no-colour"], "neither a picture nor a colour"),
        ([one, "--model", "contour_huge"], "neither a file nor a released network"),
        ([one, "--smooth"], "it is for videos"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            call("segment", *arguments, "--out", out, *([] if "--model" in arguments else SMALL))
        assert "\n" not in str(caught.value)
    for target, message in (
        (tmp_path / "m.jpg", "changes the values of a mask"),
        (tmp_path / "m.gif", "save a photo's result"),
    ):
        with pytest.raises(InputError, match=message):
            call("segment", one, "--out", target, *SMALL)
    with pytest.raises(InputError, match="would replace an input"):
        call("segment", same, "--out", same.parent, *SMALL, "--overwrite")
    with pytest.raises(InputError, match="a file, and 3 outputs need a folder"):
        call("segment", portraits, "--out", text, *SMALL)
    assert text.read_bytes() == b"x" and same.read_bytes() == one.read_bytes()


@pytest.mark.parametrize(("suffix", "side"), [(".jpg", 65_501), (".webp", 16_384)])
def test_more_pixels_than_a_format_has_room_for(tmp_path: Path, suffix: str, side: int) -> None:
    with pytest.raises(InputError, match=rf"{side} pixels, and a (JPEG|WEBP) has at most .*: name a .png"):
        pictures.write(tmp_path / f"long{suffix}", np.zeros((1, side, 3), np.uint8))
    # one less it takes
    pictures.write(tmp_path / f"long{suffix}", np.zeros((1, side - 1, 3), np.uint8))


def test_a_photo_too_long_for_its_output_is_one_of_the_bad_ones(portraits: Path, tmp_path: Path) -> None:
    Image.new("RGB", (70_000, 1)).save(tmp_path / "long.png")
    with pytest.raises(InputError, match="1 of 2 inputs could not be used"):
        call(
            "segment", tmp_path / "long.png", portraits / "p0.jpg", "--out", tmp_path / "o", "--output", "blur", *SMALL
        )
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["p0.jpg"]


def test_what_would_be_written_over(portraits: Path, tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.open(portraits / "p0.jpg").save(photo)
    before = photo.read_bytes()
    with pytest.raises(InputError, match="would replace an input"):
        call("sheet", *SMALL, photo, "--out", photo, "--overwrite")
    assert photo.read_bytes() == before
    (tmp_path / "o/a.png").mkdir(parents=True)
    with pytest.raises(InputError, match=r"o/a\.png is a folder"):
        call("segment", photo, "--out", tmp_path / "o", *SMALL)
    with pytest.raises(InputError, match="the name of one file, and 2 outputs need a folder"):
        call("segment", portraits / "p0.jpg", portraits / "p1.jpg", "--out", tmp_path / "two.png", *SMALL)
    with pytest.raises(InputError, match=rf"{re.escape(str(photo))}: a file, where .* needs a folder"):
        call("segment", portraits / "p0.jpg", "--out", photo / "b.png", *SMALL)


def test_a_full_disk_is_one_line_and_leaves_nothing(portraits: Path, tmp_path: Path) -> None:
    """By `ulimit -f`, as a shell has it; nothing half written stays."""
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from portraitseg.__main__ import main
import sys
sys.argv = ["portraitseg", "segment", {str(portraits / "p0.jpg")!r}, "--out", {str(tmp_path / "o.png")!r},
            "--output", "cutout", "--model", "contour_small"]
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
main()
"""
    ended = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert ended.returncode == 2 and len(errors) == 1 and "larger than this disk or shell allows" in errors[0], (
        ended.stderr
    )
    assert "Traceback" not in ended.stderr and not list(tmp_path.iterdir())


def test_ctrl_c_loses_nothing_and_says_how_to_go_on(portraits: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    content = (portraits / "p0.jpg").read_bytes()
    for index in range(1500):
        (folder / f"{index:04d}.jpg").write_bytes(content)
    command = [sys.executable, "-m", "portraitseg", "segment", str(folder), "--out", str(out), *SMALL, "--threads", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    while process.poll() is None and not (out.is_dir() and len(list(out.glob("*.png"))) > 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "of 1500 photos are done; go on with: " in output, output
    made = list(out.iterdir())
    assert 5 < len(made) < 1500
    for path in made:
        assert cv2.imread(str(path), 0) is not None, path


def test_the_command_that_goes_on_is_the_one_that_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/portraitseg", "segment", "a b.jpg", "--overwrite", "--out", "o"])
    assert cli.command_again() == "portraitseg segment 'a b.jpg' --out o"


def test_two_photos_at_a_time_are_as_one_after_the_other(portraits: Path, tmp_path: Path) -> None:
    for threads in (1, 3):
        call("segment", portraits, "--out", tmp_path / str(threads), "--threads", threads, *SMALL, "--output", "alpha")
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "3" / path.name).read_bytes()


def test_plan_keeps_the_order_and_takes_doubles_once(portraits: Path) -> None:
    jobs = batch.plan([str(portraits / "p2.jpg"), str(portraits)], Path("out"), "mask")
    assert [job.source.name for job in jobs] == ["p2.jpg", "p0.jpg", "p1.jpg"]


@pytest.fixture
def tree(portraits: Path, tmp_path: Path) -> Path:
    """Photos of one name in several folders, a hidden one, and a link that leads in a circle."""
    folder = tmp_path / "in"
    for path in ("a.jpg", "x/a.jpg", "x/y/a.jpg", "x/y/b.jpg", ".thumbnails/a.jpg", "x/._a.jpg"):
        _write(folder / path, (portraits / "p0.jpg").read_bytes())
    _write(folder / "x/notes.txt")
    (folder / "x/round").symlink_to(folder)
    return folder


def _made(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("inside", [False, True])
def test_folders_in_folders_keep_their_places(tree: Path, tmp_path: Path, inside: bool) -> None:
    out = tree / "x/masks" if inside else tmp_path / "out"
    call("segment", tree, "--out", out, "--recursive", *SMALL)
    assert _made(out) == {"a.png", "x/a.png", "x/y/a.png", "x/y/b.png"}
    # masks are no photos, though they lie among them
    assert "4 of 4 are there already" in call("segment", tree, "--out", out, "-r", *SMALL)
    call("segment", tree, "--out", tmp_path / "flat", *SMALL)
    assert _made(tmp_path / "flat") == {"a.png"}
    (tree / "a.jpg").unlink()
    with pytest.raises(InputError, match="there are folders in it: --recursive"):
        call("segment", tree, "--out", tmp_path / "flat", *SMALL)


def test_a_pattern_keeps_what_its_stars_stand_for(tree: Path) -> None:
    def targets(pattern: str) -> list[str]:
        jobs = batch.plan([str(tree / pattern)], Path("out"), "mask")
        return [job.destination.relative_to("out").as_posix() for job in jobs]

    (tree / "x/round").unlink()
    assert targets("**/*.jpg") == ["a.png", "x/a.png", "x/y/a.png", "x/y/b.png"]
    assert targets("x/**/b.jpg") == ["y/b.png"] and targets("x/*/b.jpg") == ["y/b.png"]
    assert targets("x/y/*.jpg") == ["a.png", "b.png"]
    # a file that is named lies in OUT itself
    assert targets("x/y/a.jpg") == ["a.png"]


def test_a_sheet(portraits: Path, tmp_path: Path) -> None:
    models = ["--model", "contour_small", "--model", "contour_medium"]
    call("sheet", *models, portraits / "p0.jpg", portraits / "p1.jpg", "--out", tmp_path / "s.png")
    sheet = cv2.imread(str(tmp_path / "s.png"))
    # photo, two cut-outs, one difference; a line of names and two rows
    assert sheet.shape == (22 + 2 * 320, 4 * 240, 3)
    with pytest.raises(InputError, match="is there already"):
        call("sheet", *models, portraits / "p0.jpg", "--out", tmp_path / "s.png")


def test_info_of_released_and_foreign_files(tmp_path: Path) -> None:
    rows = dict(describe("contour_small"))
    assert rows["input"].endswith("float32 1×256×256×3") and "CONV_2D" in rows["operators"]
    assert "IoU" in rows["test_eg1800"] and "non-commercial" in rows["licence"] and "chosen on val" in rows["refine"]
    copy = tmp_path / "mine.tflite"
    copy.write_bytes(released.find("contour_small").read_bytes())
    assert "licence" not in dict(describe(str(copy))) and dict(describe(str(copy)))["sha256"] == rows["sha256"]
    # what a stranger sees of the file itself is the same
    assert dict(describe(str(copy))).items() >= {key: rows[key] for key in ("size", "operators", "labels")}.items()
    copy.write_bytes(b"no flatbuffer")
    for model in (str(copy), "nowhere.tflite", "contour_huge"):
        with pytest.raises(InputError):
            describe(model)
    assert "operators" in CliRunner().invoke(app, ["info", "contour_small"]).stdout


@pytest.mark.parametrize("name", ["photo.jpg", "text.h5", "garbage.mlmodel", "empty.mlpackage"])
def test_info_of_what_is_no_model(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".mlpackage"):
        path.mkdir()
    else:
        path.write_bytes(b"no model")
    with pytest.raises(InputError, match=name):
        describe(str(path))


def test_info_of_onnx_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_onnx(tmp_path / "a.onnx", "nchw", (24, 30))
    rows = dict(describe(str(path)))
    assert rows["input"] == "image float 1×3×24×30" and rows["output"].startswith("mask float")
    assert "Conv" in rows["operators"] and rows["opset"].startswith("ai.onnx ") and rows["size"].endswith(" bytes")
    assert rows["constants"].endswith(" float")
    # an open size has its name
    open_path = write_onnx(tmp_path / "open.onnx", "nchw", ("side", 30))
    assert dict(describe(str(open_path)))["input"] == "image float 1×3×side×30"
    # where only the run-time is installed
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        assert dict(describe(str(path)))["contents"].endswith("pip install onnx")
    for content in (b"", b"no model at all", path.read_bytes()[:40]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="ONNX model"):
            describe(str(path))
