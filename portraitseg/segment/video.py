"""Videos in, videos out, by PyAV (an extra): upright, with their own times and sound, transparent where asked for.

One frame is in memory at a time. PyAV's wheels carry FFmpeg with x264 (GPL): it is a dependency, nothing of it is here.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from portraitseg import contract, files
from portraitseg.errors import CheckFailed, InputError
from portraitseg.segment import pictures
from portraitseg.segment.pictures import Background, Output
from portraitseg.segment.segmenter import Segmentation, Segmenter
from portraitseg.smooth import MaskSmoother

#: Suffix → (codec, pixel format, options) of opaque video.
_OPAQUE: dict[str, tuple[str, str, dict[str, str]]] = {
    ".mp4": ("libx264", "yuv420p", {"crf": "18", "preset": "medium", "movflags": "+faststart"}),
    ".m4v": ("libx264", "yuv420p", {"crf": "18", "preset": "medium", "movflags": "+faststart"}),
    ".mov": ("libx264", "yuv420p", {"crf": "18", "preset": "medium", "movflags": "+faststart"}),
    ".mkv": ("libx264", "yuv420p", {"crf": "18", "preset": "medium"}),
    ".webm": ("libvpx-vp9", "yuv420p", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}),
}

#: The same of video with alpha. ProRes 4444 is what editing programs take, WebM what browsers do.
_TRANSPARENT: dict[str, tuple[str, str, dict[str, str]]] = {
    ".webm": (
        "libvpx-vp9",
        "yuva420p",
        {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "auto-alt-ref": "0"},
    ),
    ".mov": ("prores_ks", "yuva444p10le", {"profile": "4444", "vendor": "apl0"}),
}

#: What the containers take of sound as it is; anything else is encoded anew as the second.
_SOUND: dict[str, tuple[tuple[str, ...], str]] = {
    ".mp4": (("aac", "mp3", "ac3", "eac3", "alac", "opus"), "aac"),
    ".m4v": (("aac", "mp3", "ac3", "alac"), "aac"),
    ".mov": (("aac", "mp3", "ac3", "alac", "pcm_s16le", "pcm_s24le"), "aac"),
    ".mkv": (("aac", "mp3", "ac3", "eac3", "alac", "opus", "vorbis", "flac", "pcm_s16le"), "aac"),
    ".webm": (("opus", "vorbis"), "libopus"),
}

#: A frame of more pixels than this is no video of a phone (8K has 33 million).
_MAX_PIXELS = 40_000_000

#: Share of a video's length that may be missing at the end before it counts as truncated: containers round.
_MISSING_SHARE = 0.02


def require_av() -> Any:
    """PyAV.

    Raises:
        InputError: not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError("videos need PyAV: pip install 'portraitseg[video]' (or: pip install av)") from error
    return av


def check_container(out: Path, output: Output) -> None:
    """Whether a video's result can be saved under a name.

    Raises:
        InputError: an unknown suffix, or one that has no room for alpha.
    """
    suffix = out.suffix.lower()
    if output == "cutout" and suffix not in _TRANSPARENT:
        raise InputError(
            f"--out {out}: {suffix or 'this'} has no transparency: name a .webm (for browsers) or .mov (for editing)"
        )
    if suffix not in _OPAQUE:
        raise InputError(f"--out {out}: save a video as {', '.join(_OPAQUE)}, or name a folder")


def segment_video(
    segmenter: Segmenter,
    source: Path,
    destination: Path,
    output: Output,
    background: Background | None = None,
    smoother: MaskSmoother | None = None,
) -> str | None:
    """Makes one video of another, frame by frame.

    Args:
        segmenter: its threads are the network's.
        source: any video that FFmpeg reads.
        target: written when it is whole; its suffix is the container.
        output, background: as `pictures.render`.
        smoother: new; None smooths nothing.

    Returns:
        A line for the user where nobody was found in any frame; else None.

    Raises:
        InputError: no video, no codec, a full disk.
        CheckFailed: the video ends early: what was readable is kept in `target`.
    """
    from portraitseg.segment.batch import progress

    av = require_av()
    with _opened(av, source) as container:
        stream = _video_stream(container, source)
        total = stream.frames or None
        expected_s = _duration_s(container, stream)
        has_person, count, last_s, fault = False, 0, 0.0, None
        with files.replacing(destination) as temporary, progress("frames", total, source.name) as advance:
            writer = _Writer(av, temporary, container, stream, output)
            try:
                for frame, sound in _decode(av, container, stream):
                    if sound is not None:
                        writer.sound(sound)
                        continue
                    if isinstance(frame, str):
                        fault = frame
                        break
                    pixels, time_s = _upright(frame, source), float(frame.pts * frame.time_base)
                    steady = segmenter.predict(pixels)
                    if smoother:
                        steady = smoother(steady, time_s)
                    has_person |= bool((steady > contract.PROBABILITY_THRESHOLD).any())
                    segmentation = Segmentation(pixels, steady, segmenter.matte(pixels, steady))
                    writer.picture(pictures.render(segmentation, output, background), frame)
                    count, last_s = count + 1, time_s
                    advance(1)
                if not count:
                    raise InputError(f"video {source}: no frame of it can be read: get an undamaged copy")
                writer.finish()
            finally:
                writer.close()
    step_s = float(1 / stream.average_rate) if stream.average_rate else 0.0
    if fault or (expected_s and last_s + step_s < (1 - _MISSING_SHARE) * expected_s - step_s):
        detail = f" ({fault})" if fault else ""
        of = f" of {expected_s:.1f}" if expected_s else ""
        raise CheckFailed(
            f"video {source}: truncated or damaged{detail}: the first {last_s + step_s:.1f}{of} s are in {destination}"
        )
    return None if has_person else f"video {source}: nobody was found in any of its frames"


def _opened(av: Any, source: Path) -> Any:
    if not source.is_file() or not source.stat().st_size:
        raise InputError(
            f"video {source}: {'the file is empty: get an undamaged copy' if source.is_file() else 'no such file'}"
        )
    try:
        # local files only: a playlist inside must not fetch others
        return av.open(str(source.resolve()), metadata_errors="ignore", options={"protocol_whitelist": "file"})
    except av.error.FFmpegError as error:
        raise InputError(
            f"video {source}: not a video that can be read ({_words(error)}): get an undamaged copy"
        ) from error


def _video_stream(container: Any, source: Path) -> Any:
    stream = next((stream for stream in container.streams.video), None)
    if stream is None or stream.codec_context is None:
        raise InputError(f"video {source}: no picture in it that can be decoded here")
    if not stream.width or stream.width * stream.height > _MAX_PIXELS:
        raise InputError(f"video {source}: {stream.width}x{stream.height}: no size that is taken")
    stream.thread_type = "AUTO"
    return stream


def _duration_s(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _decode(av: Any, container: Any, stream: Any) -> Iterator[tuple[Any, Any]]:
    """(frame, None) for each picture, (None, packet) for sound; (reason, None) where the file breaks off."""
    sound = next((other for other in container.streams.audio if other.codec_context is not None), None)
    wanted = [stream] if sound is None else [stream, sound]
    last_pts = None
    try:
        for packet in container.demux(*wanted):
            if packet.stream is sound:
                if packet.dts is not None:
                    yield None, packet
                continue
            for frame in packet.decode():
                # a frame without a time, or one that goes back, cannot be placed
                if frame.pts is None or (last_pts is not None and frame.pts <= last_pts):
                    continue
                last_pts = frame.pts
                yield frame, None
    except av.error.FFmpegError as error:
        yield _words(error), None


def _upright(frame: Any, source: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The frame's pixels as a player shows them."""
    if frame.width * frame.height > _MAX_PIXELS:
        raise InputError(f"video {source}: a frame of {frame.width}x{frame.height}: no size that is taken")
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


class _Writer:
    """The container that is written: one stream of pictures, one of sound where there is any."""

    def __init__(self, av: Any, path: Path, source: Any, stream: Any, output: Output) -> None:
        suffix = path.suffix.lower()
        self._av, self._path = av, path
        self._codec, self._format, options = (_TRANSPARENT if output == "cutout" else _OPAQUE)[suffix]
        flags = options.get("movflags")
        self._options = {name: value for name, value in options.items() if name != "movflags"}
        self._container = av.open(str(path), "w", options={"movflags": flags} if flags else {})
        self._time_base = _fine(stream.time_base)
        self._rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self._stream: Any = None
        # sound that comes before the first picture
        self._early: list[Any] = []
        self._sound_in = next((other for other in source.streams.audio if other.codec_context is not None), None)
        self._sound_out: Any = None
        self._copies = self._sound_in is not None and self._sound_in.codec_context.name in _SOUND[suffix][0]
        self._sound_codec = _SOUND[suffix][1]

    def _begin(self, height: int, width: int, frame: Any) -> None:
        av = self._av
        self._stream = self._encoder(self._codec, rate=self._rate, options=self._options)
        # chroma of 4:2:0 is shared by two pixels each way
        even = 2 if "420" in self._format else 1
        self._stream.width, self._stream.height = _up(width, even), _up(height, even)
        self._stream.pix_fmt = self._format
        self._stream.time_base = self._stream.codec_context.time_base = self._time_base
        is_hd = max(height, width) >= 1280 or min(height, width) >= 720
        self._space = av.video.reformatter.Colorspace.ITU709 if is_hd else av.video.reformatter.Colorspace.ITU601
        # 1: BT.709; 6: SMPTE 170M, which is BT.601; 1: limited range
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1 if is_hd else 6
        context.color_range = 1
        if self._sound_in is not None:
            if self._copies:
                self._sound_out = self._container.add_stream_from_template(self._sound_in)
            else:
                self._sound_out = self._encoder(self._sound_codec, rate=48_000)
                self._sound_out.layout = "stereo"
                self._resampler = av.AudioResampler(self._sound_out.format, self._sound_out.layout, 48_000)
        for packet in self._early:
            self.sound(packet)
        self._early.clear()

    def _encoder(self, codec: str, **settings: Any) -> Any:
        try:
            return self._container.add_stream(codec, **settings)
        except (self._av.error.FFmpegError, ValueError) as error:
            raise InputError(f"{self._path.name}: this PyAV has no {codec}: pip install --upgrade av") from error

    def picture(self, pixels: UInt8[np.ndarray, "..."], frame: Any) -> None:
        """Encodes one picture at the time of the frame that it was made of."""
        if self._stream is None:
            self._begin(pixels.shape[0], pixels.shape[1], frame)
        made = self._frame(pixels)
        made.pts = round(frame.pts * frame.time_base / self._time_base)
        made.time_base = self._time_base
        self._mux(self._stream.encode(made))

    def _frame(self, pixels: UInt8[np.ndarray, "..."]) -> Any:
        height, width = self._stream.height, self._stream.width
        if pixels.ndim == 2:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
        missing = height - pixels.shape[0], width - pixels.shape[1]
        if missing[0] < 0 or missing[1] < 0 or max(missing) > 1:
            # a video whose size changes on the way
            pixels = contract.resize_image(pixels, (height, width))
        elif max(missing):
            pixels = cv2.copyMakeBorder(pixels, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
        kind = "rgba" if pixels.shape[2] == 4 else "rgb24"
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=kind)
        return picture.reformat(format=self._format, dst_colorspace=self._space)

    def sound(self, packet: Any) -> None:
        """Copies a packet of sound, or encodes it anew where the container does not take its codec."""
        if self._stream is None:
            self._early.append(packet)
            return
        if self._copies:
            packet.stream = self._sound_out
            self._container.mux(packet)
            return
        for frame in packet.decode():
            for part in self._resampler.resample(frame):
                self._mux(self._sound_out.encode(part))

    def finish(self) -> None:
        """Writes what the encoders still hold, and the index."""
        self._mux(self._stream.encode(None))
        if self._sound_out is not None and not self._copies:
            for part in self._resampler.resample(None):
                self._mux(self._sound_out.encode(part))
            self._mux(self._sound_out.encode(None))
        self._container.close()

    def close(self) -> None:
        """Lets go of the file, finished or not."""
        self._container.close()

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self._container.mux(packet)


def _up(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def _fine(time_base: Fraction | None) -> Fraction:
    """The video's own unit of time, or one that is fine enough for any."""
    return time_base if time_base and time_base <= Fraction(1, 1000) else Fraction(1, 90_000)


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
