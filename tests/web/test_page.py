"""The page in headless Chromium: Python's masks, no request to anywhere, a sentence for everything that goes wrong."""

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from portraitseg import Segmenter, web
from portraitseg.checks.gpu import web as packages
from portraitseg.contract import probability_to_bytes
from portraitseg.data.reading import read_image
from portraitseg.segment import released
from portraitseg.synthetic.portraits import render
from tests.web.conftest import Drive, serving

pytestmark = pytest.mark.full

#: Pixels may lie on another side of one half where Python's alpha is as near to it: OpenCV's bilinear sums end in other
#: digits from processor to processor (Intel's library on x86). Refined, the coefficients' sums do too, in float32 where
#: the page has float64, most of all on grey photos, whose colours explain each other. A step of a byte is 4e-3.
TIE = {False: 1e-5, True: 2e-4}

SAMPLE = "#samples button:nth-child(1)"


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """As people have them: JPEG, smaller than the network, turned by EXIF, transparent, of the network's size, grey."""
    folder = tmp_path_factory.mktemp("portraits")
    paths = []

    def save(index: int, size: tuple[int, int], name: str, **options: Any) -> None:
        image = Image.fromarray(render(index, size)[0])
        if "transparent" in name:
            image.putalpha(Image.fromarray((np.mgrid[: size[0], : size[1]][1] % 256).astype(np.uint8)))
        if "grey" in name:
            image = image.convert("L")
        image.save(folder / name, **options)
        paths.append(folder / name)

    save(50, (960, 720), "photo.jpg", quality=90)
    save(51, (200, 151), "small.png")
    save(52, (300, 200), "one_side.webp", lossless=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    save(53, (600, 801), "turned.jpg", exif=turned)
    save(54, (400, 500), "transparent.png")
    save(55, (512, 512), "whole_factor.png")
    save(56, (256, 256), "as_it_is.png")
    save(57, (640, 480), "grey.jpg")
    return paths


@pytest.mark.parametrize("network", released.names())
def test_masks_are_pythons(network: str, portraits: list[Path], drive: Drive, tmp_path: Path) -> None:
    steps: list[list[Any]] = [["call", "choose", network]]
    for is_refined in (False, True):
        steps.append(["check", "#refine", is_refined])
        for path in portraits:
            steps.append(["file", "#file", str(path)])
            for output in ("mask", "alpha", "cutout"):
                steps.append(["save", output, str(tmp_path / f"{path.stem}_{is_refined}_{output}.png")])
            steps.append(["state"])
    seen = drive(steps)
    assert {state["message"] for state in seen["states"]} == {""}
    assert all(state["network"].startswith(network) for state in seen["states"])
    for is_refined in (False, True):
        segmenter = Segmenter(network, refine=is_refined)
        for path in portraits:
            expected = segmenter.segment(path)
            mask, alpha, cutout = (
                cv2.imread(str(tmp_path / f"{path.stem}_{is_refined}_{output}.png"), cv2.IMREAD_UNCHANGED)
                for output in ("mask", "alpha", "cutout")
            )
            assert mask is not None
            assert alpha is not None
            assert cutout is not None
            flipped = (mask > 127) != expected.mask
            assert np.abs(expected.alpha[flipped] - 0.5).max(initial=0) < TIE[is_refined], path.name
            assert flipped.mean() < 1e-4
            assert expected.mask.any()
            steps_apart = np.abs(alpha.astype(int) - probability_to_bytes(expected.alpha))
            # what lies between two bytes; and stray pieces, which a tie has taken away in the small mask here and at
            # the photo's size there, where their alpha ends at one half: no person in either
            beyond = steps_apart > 1
            assert beyond.mean() <= (0.005 if is_refined else 0)
            assert np.maximum(alpha, probability_to_bytes(expected.alpha))[beyond].max(initial=0) < 128
            assert steps_apart[~beyond].mean() < 0.01
            # colours under what is transparent too, and not multiplied by alpha
            np.testing.assert_array_equal(cutout[..., 2::-1], read_image(path)[0], err_msg=path.name)
            np.testing.assert_array_equal(cutout[..., 3], alpha)


def test_the_comparison_notices_another_network(portraits: list[Path], drive: Drive, tmp_path: Path) -> None:
    drive(
        [
            ["call", "choose", "selfie_photos_small"],
            ["file", "#file", str(portraits[0])],
            ["save", "mask", str(tmp_path / "m.png")],
        ]
    )
    mask = cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    expected = Segmenter().segment(portraits[0])
    flipped = (mask > 127) != expected.mask
    assert np.abs(expected.alpha[flipped] - 0.5).max() > 100 * TIE[True]


@pytest.mark.parametrize("engine", ["wasm", "mediapipe"])
def test_mediapipes_own_network(engine: str, portraits: list[Path], drive: Drive, tmp_path: Path) -> None:
    """Its file in LiteRT.js, and in MediaPipe's runtime, fed with our pixels: the masks of the file in Python."""
    steps: list[list[Any]] = [
        ["select", "#engine", engine],
        ["call", "choose", "MediaPipe"],
        ["check", "#refine", False],
    ]
    for path in portraits[:3]:
        steps += [["file", "#file", str(path)], ["save", "mask", str(tmp_path / f"{path.stem}.png")]]
    state = drive([*steps, ["state"]])["states"][0]
    assert (state["message"], state["engine"]) == ("", engine)
    assert ("MediaPipe's own runtime" in state["note"]) == (engine == "mediapipe")
    segmenter = Segmenter(packages.FOLDER / "node_modules/@mediapipe" / web._SELFIE, refine=False)
    for path in portraits[:3]:
        mask = cv2.imread(str(tmp_path / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        expected = segmenter.segment(path)
        flipped = (mask > 127) != expected.mask
        assert np.abs(expected.alpha[flipped] - 0.5).max(initial=0) < 1e-3, path.name
        assert flipped.mean() < 1e-4
        assert expected.mask.any()


def test_our_networks_in_mediapipes_runtime(portraits: list[Path], drive: Drive, tmp_path: Path) -> None:
    """Each has the metadata that it asks for, and proves itself by its golden portrait; a file without is named."""
    bare = packages.FOLDER / "node_modules/@mediapipe" / web._SELFIE
    steps: list[list[Any]] = [["select", "#engine", "mediapipe"], ["file", "#file", str(portraits[0])]]
    for name in ("selfie_general", "selfie_photos_small"):
        steps += [["call", "choose", name], ["state"], ["save", "mask", str(tmp_path / f"{name}.png")]]
    *ours, refused = drive([*steps, ["file", "#own", str(bare)], ["state"]])["states"]
    assert [state["message"] for state in ours] == ["", ""]
    assert all("golden portrait was checked" in state["note"] for state in ours)
    for name in ("selfie_general", "selfie_photos_small"):
        mask = cv2.imread(str(tmp_path / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        # int8 kernels of another version round otherwise
        assert np.mean((mask > 127) != Segmenter(name).segment(portraits[0]).mask) < 2e-3
    assert "cannot be opened by MediaPipe's runtime: it has no metadata" in refused["message"]
    assert "on MediaPipe's runtime is used instead" in refused["message"]


def test_no_request_leaves_this_machine(portraits: list[Path], drive: Drive, tmp_path: Path) -> None:
    looks = [["check", f"[value={look}]"] for look in ("blur", "color", "picture", "alpha", "mask", "cutout")]
    seen = drive(
        [
            ["press", SAMPLE],
            ["file", "#file", str(portraits[0])],
            ["file", "#background", str(portraits[1])],
            *looks,
            *(["save", output, str(tmp_path / f"{output}.png")] for output in ("cutout", "alpha", "mask", "shown")),
            ["call", "choose", "selfie_photos_large"],
            ["select", "#engine", "mediapipe"],
            ["press", "#camera"],
            ["wait", 1500],
            ["press", "#camera"],
            ["state"],
        ],
        flags=["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
        permissions=["camera"],
    )
    assert seen["states"][0]["message"] == ""
    foreign = [url for url in seen["requests"] if not url.startswith((seen["url"], f"blob:{seen['url']}", "data:"))]
    assert foreign == []
    assert len(seen["requests"]) > 20
    shown = cv2.imread(str(tmp_path / "shown.png"))
    assert shown is not None
    assert shown.shape[:2] == (960, 720)


def test_the_policy_blocks_what_is_foreign(drive: Drive) -> None:
    elsewhere: web.Site = {"x.js": b"window.foreign = true;", "x.png": b""}
    with serving(elsewhere, headers={"Access-Control-Allow-Origin": "*"}) as other:
        answer = drive([["call", "trespass", other]])["results"][0]
    assert {"script-src-elem", "img-src", "frame-src", "connect-src"} <= set(answer.pop("violated"))
    assert answer == {"fetched": False, "sent": False, "foreign": False, "inline": False}


def test_without_the_policy_it_would_be_reached(drive: Drive, site: web.Site) -> None:
    """The test above can fail: the same page without headers and meta element lets all of it happen."""
    page = site["index.html"]
    assert isinstance(page, bytes)
    bare = {**site, "index.html": page.replace(b"Content-Security-Policy", b"x-none")}
    elsewhere: web.Site = {"x.js": b"window.foreign = true;", "x.png": b""}
    with serving(elsewhere, headers={"Access-Control-Allow-Origin": "*"}) as other:
        answer = drive([["call", "trespass", other]], bare, {})["results"][0]
    assert answer["fetched"]
    assert answer["foreign"]
    assert answer["inline"]


def huge_png(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress(b"\0" * (height * (width // 8 + 1)))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_bad_pictures_are_named_and_the_last_one_stays(portraits: list[Path], drive: Drive, tmp_path: Path) -> None:
    bad = {
        "words.jpg": (b"no picture at all", "is not a picture that this browser reads"),
        "empty.png": (b"", "is not a picture that this browser reads"),
        "huge.png": (huge_png(20_000, 10_000), "200 megapixels: at most 50"),
        "film.mp4": (b"\0\0\0\x18ftypmp42", r"(video/mp4) is not a picture"),
    }
    steps: list[list[Any]] = [["file", "#file", str(portraits[0])], ["state"]]
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
        steps += [["file", "#file", str(tmp_path / name)], ["state"]]
    steps += [["save", "mask", str(tmp_path / "mask.png")], ["file", "#file", str(portraits[1])], ["state"]]
    states = drive(steps)["states"]
    assert states[0]["message"] == ""
    for state, (name, (_, words)) in zip(states[1:-1], bad.items(), strict=True):
        assert words in state["message"], name
    assert (states[-1]["message"], states[-1]["status"][:7]) == ("", "151×200")
    mask = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    assert mask.shape == (960, 720)


def test_own_networks(portraits: list[Path], drive: Drive, tmp_path: Path) -> None:
    """A good one runs; damaged ones and such of another size are named, and what ran before runs on."""
    good = released.find("selfie_photos_small")
    content = good.read_bytes()
    scrambled = bytearray(content)
    scrambled[64:4096] = bytes(4032)
    files = {
        "cut.tflite": (content[: len(content) // 2], "cut.tflite"),
        "scrambled.tflite": (bytes(scrambled), "scrambled.tflite cannot be opened by LiteRT.js"),
        "words.tflite": (b"words", "words.tflite is not a .tflite file"),
        "bytes.tflite": (
            next(good.parent.glob("*rgba*_u8.tflite")).read_bytes(),
            "has another size: input 1×176×160×4 uint8",
        ),
    }
    steps: list[list[Any]] = [["file", "#file", str(portraits[0])]]
    for name, (damaged, _) in files.items():
        (tmp_path / name).write_bytes(damaged)
        steps += [["file", "#own", str(tmp_path / name)], ["state"], ["save", "mask", str(tmp_path / f"{name}.png")]]
    steps += [["file", "#own", str(good)], ["state"], ["save", "mask", str(tmp_path / "good.png")]]
    seen = drive(steps)
    for state, (name, (_, words)) in zip(seen["states"], files.items(), strict=False):
        assert words in state["message"], name
        assert released.DEFAULT in state["message"], name
        assert state["network"].startswith(released.DEFAULT)
    medium = Segmenter().segment(portraits[0])
    for name in files:
        mask = cv2.imread(str(tmp_path / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        assert np.mean((mask > 127) != medium.mask) < 1e-5, name
    assert seen["states"][-1]["message"] == ""
    assert seen["states"][-1]["network"] == f"{good.name} (yours)"


def test_a_served_network_is_checked(site: web.Site, drive: Drive) -> None:
    index = site["networks.json"]
    assert isinstance(index, bytes)
    default = next(entry for entry in json.loads(index)["networks"] if entry["isDefault"])
    url = default["files"]["wasm"]["url"]
    content = site[url]
    assert isinstance(content, bytes)
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    state = drive([["press", SAMPLE], ["state"]], pages={**site, url: bytes(damaged)})["states"][0]
    assert "is damaged (its hash differs" in state["message"]

    # a sound file that is another network's: its mask of the golden portrait is not the one that was exported
    other = site["networks/mediapipe/selfie_segmentation.tflite"]
    assert isinstance(other, bytes)
    swapped = json.loads(index)
    entry = next(entry for entry in swapped["networks"] if entry["isDefault"])
    entry["files"]["wasm"] |= {"bytes": len(other), "sha256": hashlib.sha256(other).hexdigest()}
    entry["golden"] |= {"mean_steps": 0.2, "flipped_share": 1e-4}
    pages = {**site, url: other, "networks.json": json.dumps(swapped).encode()}
    assert "gives a wrong mask on wasm" in drive([["state"]], pages=pages)["states"][0]["message"]

    resized = json.loads(index)
    entry = next(entry for entry in resized["networks"] if entry["isDefault"])
    entry["size"] = [144, 256]
    state = drive([["state"]], pages={**site, "networks.json": json.dumps(resized).encode()})["states"][0]
    assert "is of 256×256, networks.json says 144×256" in state["message"]


def test_the_camera(drive: Drive) -> None:
    fake = ["--use-fake-device-for-media-stream"]
    steps = [["press", "#camera"], ["wait", 4000], ["state"], ["press", "#camera"], ["state"]]
    running, stopped = drive(steps, flags=fake, permissions=["camera"])["states"]
    assert running["message"] == ""
    assert "frames a second" in running["status"]
    assert running["times"].keys() >= {"read", "shrink", "network", "smooth", "edges", "draw", "together"}
    assert stopped["message"] == ""
    # nobody allows it
    state = drive([["press", "#camera"], ["state"]], flags=[*fake, "--deny-permission-prompts"])["states"][0]
    assert "The camera was refused" in state["message"]
    # there is none
    state = drive([["press", "#camera"], ["state"], ["press", SAMPLE], ["state"]], permissions=["camera"])["states"]
    assert "No camera was found" in state[0]["message"]
    assert state[1]["message"] == ""


@pytest.mark.parametrize("way", ["tracks", "no tracks", "turned"])
def test_frames_come_from_the_track_or_else_from_the_video(way: str, drive: Drive) -> None:
    steps = [["call", "watchFrames", way], ["press", "#camera"], ["wait", 6000], ["call", "bitmapsMade"], ["state"]]
    seen = drive(steps, flags=["--use-fake-device-for-media-stream"], permissions=["camera"])
    assert seen["states"][0]["message"] == ""
    assert "frames a second" in seen["states"][0]["status"]
    assert (seen["results"][-1] == 0) == (way == "tracks")


def test_an_unplugged_camera(drive: Drive) -> None:
    """Its track ends by itself; what the page hears then."""
    steps = [["call", "keepStream"], ["press", "#camera"], ["wait", 1500], ["call", "unplug"], ["state"]]
    steps += [["press", SAMPLE], ["state"]]
    states = drive(steps, flags=["--use-fake-device-for-media-stream"], permissions=["camera"])["states"]
    assert "The camera was unplugged" in states[0]["message"]
    assert states[1]["message"] == ""


def test_without_threads(site: web.Site, drive: Drive, portraits: list[Path], tmp_path: Path) -> None:
    """A host that sends no headers at all: the page's own policy holds, one thread runs, and the page says so."""
    pages = {name: content for name, content in site.items() if "threaded" not in name}
    seen = drive(
        [["file", "#file", str(portraits[1])], ["state"], ["save", "mask", str(tmp_path / "m.png")]], pages, {}
    )
    assert "one thread (more need a server that sends COOP and COEP headers)" in seen["states"][0]["note"]
    mask = cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    assert np.mean((mask > 127) != Segmenter().segment(portraits[1]).mask) < 1e-4


def test_with_threads(site: web.Site, drive: Drive, portraits: list[Path], tmp_path: Path) -> None:
    """Two, however many cores this machine has: LiteRT.js's own threads start from its script, under our policy."""
    source = (web.SOURCES / "segmenter.mjs").read_text(encoding="utf-8")
    cores = "navigator.hardwareConcurrency || 1"
    assert source.count(cores) == 1
    pages = {**site, "segmenter.mjs": source.replace(cores, "2").encode()}
    seen = drive([["file", "#file", str(portraits[0])], ["state"], ["save", "mask", str(tmp_path / "m.png")]], pages)
    assert "2 threads;" in seen["states"][0]["note"]
    assert any("litert_wasm_threaded_internal.wasm" in url for url in seen["requests"])
    mask = cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    assert np.mean((mask > 127) != Segmenter().segment(portraits[0]).mask) < 1e-5


def test_without_webgpu(drive: Drive, portraits: list[Path]) -> None:
    """The GPU is not to be had: the CPU runs on, and the page says so."""
    step = ["select", "#engine", "webgpu"]
    state = drive([["file", "#file", str(portraits[1])], step, ["state"]], flags=["--disable-features=WebGPU"])[
        "states"
    ][0]
    assert "no WebGPU" in state["message"]
    assert "the CPU is used instead" in state["message"]
    assert (state["engine"], state["status"][:7]) == ("wasm", "151×200")


def test_webgpu(drive: Drive, portraits: list[Path], tmp_path: Path) -> None:
    flags = ["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-webgpu-adapter=swiftshader"]
    steps = [["select", "#engine", "webgpu"], ["file", "#file", str(portraits[0])], ["state"]]
    seen = drive([*steps, ["save", "mask", str(tmp_path / "m.png")]], flags=flags)
    state = seen["states"][0]
    if state["engine"] != "webgpu":
        pytest.skip(f"NOT RUN: this Chromium has no WebGPU in software: {state['message']}")
    mask = cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    fp16 = next(released.find(released.DEFAULT).parent.glob("*-rgb-fp16.tflite"))
    # half precision of the GPU
    assert np.mean((mask > 127) != Segmenter(fp16).segment(portraits[0]).mask) < 2e-3


def test_the_shader_is_the_arithmetic(drive: Drive) -> None:
    """Coefficients → mask on the GPU against refine.mjs on the CPU, in the page."""
    answer = drive([["call", "compareShader"]])["results"][0]
    # coefficients in half precision, alpha in bytes
    assert answer["right"][0] < 5e-4
    assert answer["right"][1] < 2e-3
    assert answer["mirrored"][0] > 10 * 5e-4
    assert answer["rough"][1] > 2e-3


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_dropped_and_pasted(kind: str, drive: Drive) -> None:
    good, bad = drive([["call", "bring", kind, "samples/2.jpg"], ["state"], ["call", "bring", kind], ["state"]])[
        "states"
    ]
    assert (good["message"], good["status"][:8]) == ("", "720×960.")
    assert bad["message"].startswith("That was no file" if kind == "drop" else "There is no picture on the clipboard.")


def test_the_keyboard_alone(drive: Drive) -> None:
    tabs = [step for _ in range(18) for step in (["keys", "Tab"], ["call", "focused"])]
    seen = drive([["press", SAMPLE], ["call", "focus", "#split"], *tabs, ["keys", "Shift+Tab"], ["call", "focused"]])
    assert {"file", "camera", "cutout", "network", "engine", "own", "refine", "smooth"} <= set(seen["results"])
    steps = [["press", SAMPLE], ["call", "focus", "#split"], ["keys", *["ArrowRight"] * 7], ["call", "value", "#split"]]
    steps += [["call", "focus", "[value=cutout]"], ["keys", "ArrowDown"], ["call", "look"]]
    assert [answer for answer in drive(steps)["results"] if answer is not None] == ["7", "blur"]


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (360, "dark"), (1280, "dark")])
def test_narrow_screens_and_contrast(width: int, scheme: str, drive: Drive) -> None:
    """Nothing runs out at the side, and text stands out from its ground as WCAG asks for (4.5)."""
    context = {"viewport": {"width": width, "height": 700}, "colorScheme": scheme}
    answer = drive([["press", SAMPLE], ["call", "measureLayout"]], context=context)["results"][0]
    assert answer["over"] <= 0
    assert min(answer["contrasts"]) >= 4.5, answer["contrasts"]
