"""Videos in and out: times, rotation, sound, transparency that is really there, and files that break off."""

import itertools
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portraitseg.errors import CheckFailed, InputError
from portraitseg.segment import pictures, video
from portraitseg.segment.segmenter import Segmenter
from portraitseg.synthetic import portraits as synthetic
from tests import limits
from tests.test_segment_command import SMALL, call

av = pytest.importorskip("av", reason="VIDEOS NOT RUN: no PyAV: pip install 'portraitseg[video]'")

#: Unit of the times that are written, and the seconds of frames of a camera that is not even.
UNIT, UNEVEN = Fraction(1, 1000), (0, 40, 130, 170, 210, 300, 340, 380, 470, 510)


def frames(size: tuple[int, int] = (96, 128), count: int = len(UNEVEN)) -> list[np.ndarray]:
    """A drawn person who walks."""
    colour, alpha, background = synthetic.render_layers(2, size, 7)
    steps = range(0, 3 * count, 3)
    return [synthetic.compose(np.roll(colour, s, 1), np.roll(alpha, s, 1), background) for s in steps]


def write_video(
    path: Path,
    pictures_: list[np.ndarray],
    times: tuple[int, ...] = UNEVEN,
    sound: str | None = None,
    codec: str = "libx264",
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w", options=options or {}) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width = pictures_[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = UNIT
        heard = None
        if sound:
            heard = out.add_stream(sound, rate=48_000)
            heard.layout = "mono"
        for index, (pixels, time) in enumerate(zip(pictures_, times, strict=False)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, UNIT
            for packet in stream.encode(frame):
                out.mux(packet)
            if heard is not None and index == 0:
                wave = (0.3 * np.sin(np.arange(24_000) / 20)).astype(np.float32)[None]
                for start in range(0, wave.shape[1], 960):
                    part = av.AudioFrame.from_ndarray(wave[:, start : start + 960], format="fltp", layout="mono")
                    part.rate = 48_000
                    for packet in heard.encode(part):
                        out.mux(packet)
        for one in (stream, heard):
            for packet in one.encode(None) if one is not None else ():
                out.mux(packet)
        if rotation:
            set_rotation(out, stream, rotation)
    return path


def set_rotation(out: Any, stream: Any, rotation: int) -> None:
    stream.set_display_rotation(rotation)


def read_video(path: Path) -> tuple[list[np.ndarray], list[float], Any]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (frame.to_ndarray(format="rgb24"), float(frame.pts * frame.time_base)) for frame in container.decode(stream)
        ]
        facts = (stream.codec_context.name, [one.codec_context.name for one in container.streams.audio])
        return [pixels for pixels, _ in frames], [time for _, time in frames], facts


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4", frames(), sound="aac")


def test_times_and_sound_stay(uneven: Path, tmp_path: Path) -> None:
    call("segment", uneven, "--out", tmp_path / "o.mp4", "--output", "blur", *SMALL)
    pixels, times, (codec, sounds) = read_video(tmp_path / "o.mp4")
    assert codec == "h264" and sounds == ["aac"] and pixels[0].shape == (96, 128, 3)
    np.testing.assert_allclose(times, np.array(UNEVEN) / 1000, atol=1e-3)
    # copied, not encoded again
    assert sound_packets(tmp_path / "o.mp4") == sound_packets(uneven)


def test_colours_stay(uneven: Path, tmp_path: Path) -> None:
    """A background replaced by itself: a wrong matrix of YUV would turn greens by ten and more."""
    segmenter = Segmenter("contour_small", refine=False)
    for size in ((96, 128), (720, 1280)):
        source = write_video(tmp_path / f"flat{size[0]}.mp4", [np.full((*size, 3), (40, 160, 90), np.uint8)] * 2)
        video.segment_video(segmenter, source, tmp_path / "o.mp4", "replace", (40, 160, 90))
        after = read_video(tmp_path / "o.mp4")[0][0].mean(axis=(0, 1))
        # a rounding of YUV; the matrix of the other size is off by 10 to 17
        assert np.abs(after - (40, 160, 90)).max() <= 2, (size, after)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_phone_held_upright(tmp_path: Path, rotation: int) -> None:
    upright = frames((128, 96))
    turned = [np.ascontiguousarray(np.rot90(one, -rotation // 90)) for one in upright]
    source = tmp_path / "turned.mp4"
    try:
        write_rotated(source, turned, rotation)
    except AttributeError:
        pytest.skip("this PyAV writes no rotation")
    call("segment", source, "--out", tmp_path / "o.mp4", "--output", "replace", "--background", "black", "--model",
         "contour_small")  # fmt: skip
    pixels, _, _ = read_video(tmp_path / "o.mp4")
    assert pixels[0].shape == (128, 96, 3)
    person = Segmenter("contour_small").segment(upright[4]).mask
    kept = pixels[4].astype(int)[person]
    # the person stands where it stood
    assert np.abs(kept - upright[4].astype(int)[person]).mean() < 16


def write_rotated(path: Path, pictures_: list[np.ndarray], rotation: int) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures_[0].shape[:2], "yuv420p"
        stream.set_display_rotation(rotation)
        for pixels in pictures_:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)


def alphas_of_webm(path: Path) -> list[np.ndarray]:
    """FFmpeg's own VP9 decoder leaves alpha out: libvpx's is asked by name."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        decoder.extradata = stream.codec_context.extradata
        alphas = []
        for packet in container.demux(stream):
            alphas += [
                frame.to_ndarray(format="rgba")[..., 3] for frame in decoder.decode(packet if packet.size else None)
            ]
        return alphas


def test_webm_is_transparent(uneven: Path, tmp_path: Path) -> None:
    call("segment", uneven, "--out", tmp_path, "--output", "cutout", *SMALL, "--no-smooth")
    alphas = alphas_of_webm(tmp_path / "walk.webm")
    _, times, (codec, sounds) = read_video(tmp_path / "walk.webm")
    assert codec == "vp9" and sounds == ["opus"] and len(alphas) == len(UNEVEN)
    np.testing.assert_allclose(times, np.array(UNEVEN) / 1000, atol=2e-3)
    segmenter = Segmenter("contour_small")
    expected = [pictures.render(segmenter.segment(one), "alpha") for one in read_video(uneven)[0]]
    for one, other in zip(alphas, expected, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 2
    assert min(one.min() for one in alphas) <= 2 and max(one.max() for one in alphas) >= 253


def test_prores_is_transparent(uneven: Path, tmp_path: Path) -> None:
    call("segment", uneven, "--out", tmp_path / "o.mov", "--output", "cutout", *SMALL, "--no-smooth")
    segmenter = Segmenter("contour_small")
    with av.open(str(tmp_path / "o.mov")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "prores" and "yuva444" in stream.codec_context.pix_fmt
        alphas = [frame.to_ndarray(format="rgba")[..., 3] for frame in container.decode(stream)]
    expected = [pictures.render(segmenter.segment(one), "alpha") for one in read_video(uneven)[0]]
    assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(alphas, expected, strict=True)]) < 1


def test_smoothing_is_on_unless_switched_off(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    still = [np.clip(frames()[0] + generator.normal(0, 9, (96, 128, 3)), 0, 255).astype(np.uint8) for _ in range(8)]
    source = write_video(tmp_path / "still.mkv", still, tuple(range(0, 320, 40)), codec="ffv1")
    changes = {}
    for option in ("--smooth", "--no-smooth"):
        call("segment", source, "--out", tmp_path / "o.mkv", "--output", "alpha", option, "--overwrite", *SMALL)
        pictures = np.array(read_video(tmp_path / "o.mkv")[0], np.int16)
        changes[option] = float(np.abs(np.diff(pictures[2:], axis=0)).mean())
    assert changes["--smooth"] < 0.8 * changes["--no-smooth"]


def test_odd_sizes_and_sound_that_webm_does_not_take(tmp_path: Path) -> None:
    source = write_video(tmp_path / "odd.mkv", frames((97, 131)), codec="ffv1", sound="pcm_s16le")
    call("segment", source, "--out", tmp_path / "o.webm", *SMALL)
    pixels, _, (codec, sounds) = read_video(tmp_path / "o.webm")
    assert codec == "vp9" and sounds == ["opus"] and pixels[0].shape == (98, 132, 3)


def test_a_truncated_video_is_kept_as_far_as_it_goes(tmp_path: Path) -> None:
    count = 60
    source = write_video(
        tmp_path / "long.mp4", frames(count=count), tuple(range(0, 40 * count, 40)), options={"movflags": "+faststart"}
    )
    content = source.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: int(len(content) * 0.6)])
    with pytest.raises(CheckFailed, match=r"cut\.mp4: truncated or damaged.*: the first .* of 2\.4 s are in "):
        call("segment", tmp_path / "cut.mp4", "--out", tmp_path / "out", *SMALL)
    pixels, _, _ = read_video(tmp_path / "out/cut.mp4")
    assert 10 < len(pixels) < count


def test_what_cannot_be_is_one_line(uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    (tmp_path / "empty.mp4").touch()
    # the index of an ordinary .mp4 is at its end
    (tmp_path / "cut.mp4").write_bytes(uneven.read_bytes()[:3000])
    cases: list[tuple[list[object], str]] = [
        ([uneven, "--out", tmp_path / "o.mp4", "--output", "cutout"], r"\.mp4 has no transparency: name a \.webm"),
        ([uneven, "--out", tmp_path / "o.gif"], "save a video as"),
        ([tmp_path / "text.mp4", "--out", tmp_path], "would replace an input"),
        ([tmp_path / "text.mp4", "--out", tmp_path / "out"], "not a video that can be read"),
        ([tmp_path / "empty.mp4", "--out", tmp_path / "out"], "the file is empty"),
        ([tmp_path / "cut.mp4", "--out", tmp_path / "out"], "not a video that can be read|no frame of it"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            call("segment", *arguments, *SMALL)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'portraitseg\[video\]'"):
        call("segment", uneven, "--out", tmp_path / "o.mp4", *SMALL)


def test_no_codec_is_one_line(uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = tmp_path / "unknown.mp4"
    unknown.write_bytes(uneven.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(InputError, match=r"unknown\.mp4: no picture in it that can be decoded here"):
        call("segment", unknown, "--out", tmp_path / "out", *SMALL)
    for table, entry in (
        (video._OPAQUE, ("libnothing", "yuv420p", {})),
        (video._SOUND, ((), "libnothing")),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(table, ".mp4", entry)
            with pytest.raises(InputError, match=r"o\.mp4: this PyAV has no libnothing: pip install --upgrade av"):
                call("segment", uneven, "--out", tmp_path / "out/o.mp4", *SMALL)
    assert not list((tmp_path / "out").glob("*"))


def test_a_full_disk_is_one_line_and_leaves_nothing(uneven: Path, tmp_path: Path) -> None:
    """By `ulimit -f`: beyond it nothing can be written, as on a full disk."""
    target = tmp_path / "o.mp4"
    target.write_bytes(b"before")
    message = r"o\.mp4: the file is larger than this disk or shell allows"
    with limits.file_size(2000), pytest.raises(InputError, match=message):
        call("segment", uneven, "--out", target, "--overwrite", *SMALL)
    assert target.read_bytes() == b"before" and list(tmp_path.iterdir()) == [target]


def test_ctrl_c_leaves_whole_videos_alone(uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(uneven.read_bytes())
    predict, seen = Segmenter.predict, itertools.count()

    def stopped(self: Segmenter, image: np.ndarray) -> np.ndarray:
        if next(seen) == len(UNEVEN) + 4:
            raise KeyboardInterrupt
        return predict(self, image)

    monkeypatch.setattr(Segmenter, "predict", stopped)
    with pytest.raises(SystemExit) as ended:
        call("segment", folder, "--out", out, *SMALL)
    assert ended.value.code == 130 and "1 of 2 videos are done; go on with: " in ended.value.__notes__[0]
    assert [path.name for path in out.iterdir()] == ["a.mp4"] and len(read_video(out / "a.mp4")[0]) == len(UNEVEN)


def test_a_background_only_video_says_so(tmp_path: Path) -> None:
    source = write_video(tmp_path / "sea.mp4", [np.full((96, 128, 3), (20, 90, 160), np.uint8)] * 4)
    assert "nobody was found in any of its frames" in call("segment", source, "--out", tmp_path / "o.mp4", *SMALL)
