"""Sets over a bad network, from a server on loopback: cut off, wrong, refused; and archives made to do harm."""

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from portraitseg import terms
from portraitseg.config import DataConfig
from portraitseg.data import DATASETS, catalogue, open_dataset
from portraitseg.data.catalogue import Archive, Entry
from portraitseg.errors import CheckFailed, InputError
from tests.data import drawn
from train import download as downloading
from train import fetch
from train.unpack import unpack

#: What the server does with a request: its number from 0, the file, the first byte that is asked for.
Answer = Callable[[BaseHTTPRequestHandler, int, bytes, int], None]


def whole(handler: BaseHTTPRequestHandler, number: int, content: bytes, first: int) -> None:
    """As servers of files do."""
    del number
    if first >= len(content):
        handler.send_error(416)
        return
    handler.send_response(206 if first else 200)
    if first:
        handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - first))
    handler.end_headers()
    handler.wfile.write(content[first:])


def cut_off(handler: BaseHTTPRequestHandler, number: int, content: bytes, first: int) -> None:
    """A third of the file a connection."""
    handler.send_response(206 if first else 200)
    if first:
        handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - first))
    handler.end_headers()
    handler.wfile.write(content[first : first + len(content) // 3 + 1])
    handler.wfile.flush()
    handler.connection.close()


def without_ranges(handler: BaseHTTPRequestHandler, number: int, content: bytes, first: int) -> None:
    """Sends the whole file whatever is asked for, the first time only half of it."""
    del first
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content if number else content[: len(content) // 2])
    handler.wfile.flush()
    handler.connection.close()


def wrong(handler: BaseHTTPRequestHandler, number: int, content: bytes, first: int) -> None:
    whole(handler, number, bytes(reversed(content)), first)


def wrong_once(handler: BaseHTTPRequestHandler, number: int, content: bytes, first: int) -> None:
    (whole if number else wrong)(handler, number, content, first)


def busy_twice(handler: BaseHTTPRequestHandler, number: int, content: bytes, first: int) -> None:
    if number < 2:
        handler.send_error(503)
    else:
        whole(handler, number, content, first)


def gone(handler: BaseHTTPRequestHandler, number: int, content: bytes, first: int) -> None:
    handler.send_error(404)


def silent(handler: BaseHTTPRequestHandler, number: int, content: bytes, first: int) -> None:
    handler.connection.close()


class Server:
    """Serves one file."""

    def __init__(self, content: bytes, answer: Answer, name: str) -> None:
        self.asked: list[int] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
                owner.asked.append(first)
                answer(self, len(owner.asked) - 1, content, first)

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.archive = Archive(
            f"http://127.0.0.1:{self.http.server_port}/{name}",
            f"sha256:{hashlib.sha256(content).hexdigest()}",
            len(content),
        )
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    monkeypatch.setattr(downloading, "FIRST_WAIT_S", 0.01)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    servers: list[Server] = []

    def start(content: bytes, answer: Answer = whole, name: str = "a.zip") -> Server:
        servers.append(Server(content, answer, name))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


CONTENT = bytes(range(256)) * 4000


@pytest.mark.parametrize("answer", [whole, cut_off, without_ranges, wrong_once, busy_twice])
def test_a_bad_network_is_got_over(tmp_path: Path, serve: Callable[..., Server], answer: Answer) -> None:
    server = serve(CONTENT, answer)
    fetched = downloading.download(server.archive, tmp_path)
    assert fetched.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    if answer is cut_off:
        # it goes on where it was
        assert server.asked[0] == 0 and server.asked == sorted(server.asked) and len(server.asked) in (3, 4)


def test_a_stopped_call_goes_on(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(CONTENT)
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:700_000])
    assert downloading.download(server.archive, tmp_path).read_bytes() == CONTENT
    assert server.asked == [700_000]
    # and what is whole is not fetched at all
    downloading.download(server.archive, tmp_path)
    assert server.asked == [700_000]


@pytest.mark.parametrize("kept", [b"\0" * 5000, b"\0" * (len(CONTENT) + 5)], ids=["other", "longer"])
def test_a_part_of_another_file_is_no_part_of_this_one(
    tmp_path: Path, serve: Callable[..., Server], kept: bytes
) -> None:
    server = serve(CONTENT)
    (tmp_path / "a.zip.part").write_bytes(kept)
    assert downloading.download(server.archive, tmp_path).read_bytes() == CONTENT


def test_wrong_bytes_are_not_kept(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(CONTENT, wrong)
    with pytest.raises(CheckFailed, match="its checksum is not the one that was published"):
        downloading.download(server.archive, tmp_path)
    assert not list(tmp_path.iterdir()) and len(server.asked) == 2


def test_a_server_that_refuses_or_is_silent(tmp_path: Path, serve: Callable[..., Server]) -> None:
    with pytest.raises(InputError, match="answers 404 Not Found: has it moved"):
        downloading.download(serve(CONTENT, gone).archive, tmp_path)
    server = serve(CONTENT, silent)
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    with pytest.raises(InputError, match="5 times in a row; what came is kept"):
        downloading.download(server.archive, tmp_path)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:1000] and len(server.asked) == 5


def test_two_do_not_fetch_the_same(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve(CONTENT)
    with (
        downloading._locked(tmp_path / "a.zip.part"),
        pytest.raises(InputError, match="another process is fetching it"),
    ):
        downloading.download(server.archive, tmp_path)
    assert not server.asked


# --- archives


def zipped(*members: tuple[str, bytes], mode: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return stream.getvalue()


def tarred(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", more: tuple[str, ...] = ()) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        info.size = 3 if kind == tarfile.REGTYPE else 0
        file.addfile(info, io.BytesIO(b"abc") if info.size else None)
        for other in more:
            second = tarfile.TarInfo(other)
            second.size = 3
            file.addfile(second, io.BytesIO(b"abc"))
    return stream.getvalue()


def understated() -> bytes:
    """A bomb whose header says that it is small."""
    content = zipped(("a", b"\0" * 3_000_000))
    size = (3_000_000).to_bytes(4, "little")
    assert content.count(size) == 2
    return content.replace(size, (10).to_bytes(4, "little"))


HOSTILE: list[tuple[str, bytes, str]] = [
    ("up.zip", zipped(("../evil", b"x")), "outside"),
    ("deep.zip", zipped(("a/../../evil", b"x")), "outside"),
    ("root.zip", zipped(("/tmp/evil", b"x")), "outside"),
    ("drive.zip", zipped(("C:evil", b"x")), "outside"),
    ("windows.zip", zipped(("..\\evil", b"x")), "outside"),
    ("line.zip", zipped(("a\nb", b"x")), "outside"),
    ("link.zip", zipped(("evil", b"/etc/passwd"), mode=0o120777), "link or a device"),
    ("pipe.zip", zipped(("evil", b""), mode=0o010644), "link or a device"),
    ("twice.zip", zipped(("a", b"x"), ("a", b"y")), "twice"),
    ("both.zip", zipped(("a", b"x"), ("a/b", b"y")), "twice|a file and a folder"),
    ("bomb.zip", zipped(("a", b"\0" * 3_000_000)), "made to fill the disk"),
    ("understated.zip", understated(), "fill the disk|not an archive"),
    ("cut.zip", zipped(("a", bytes(range(256)) * 9))[:-30], "not an archive"),
    ("text.zip", b"hello", "not an archive"),
    ("up.tar", tarred("../evil"), "outside"),
    ("root.tar", tarred("/tmp/evil"), "outside"),
    ("symlink.tar", tarred("a", tarfile.SYMTYPE, "..", ("a/evil",)), "link or a device"),
    ("hardlink.tar", tarred("a", tarfile.LNKTYPE, "../evil"), "link or a device"),
    ("device.tar", tarred("a", tarfile.CHRTYPE), "link or a device"),
    ("fifo.tar", tarred("a", tarfile.FIFOTYPE), "link or a device"),
    ("twice.tar", tarred("a", more=("a",)), "twice"),
    ("cut.tar", tarred("a", more=("b", "c"))[:60], "not an archive"),
]


@pytest.mark.parametrize(("name", "content", "message"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_hostile_archives_leave_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    monkeypatch.setattr("train.unpack.LEAST_BOUND_BYTES", 1_000_000)
    archive, folder = tmp_path / name, tmp_path / "in/here"
    archive.write_bytes(content)
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match=message) as caught:
        unpack(archive, folder)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(archive))
    assert {path.name for path in tmp_path.iterdir()} == {name, "in"} and len(list((tmp_path / "in").iterdir())) == 1
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    # one chunk more than is allowed, at most
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 2_100_000


def test_good_archives_are_unpacked(tmp_path: Path) -> None:
    for name, content in (("a.zip", zipped(("d/", b""), ("d/e/a", b"abc"))), ("a.tgz", tarred("d/e/a", more=("./b",)))):
        (tmp_path / name).write_bytes(content)
        folder = tmp_path / f"of_{name}"
        folder.mkdir()
        assert unpack(tmp_path / name, folder) == 2
        assert (folder / "d/e/a").read_bytes() == b"abc"


# --- the command


@pytest.fixture
def entry(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> tuple[Entry, list[Server]]:
    """A set in two archives that share a folder, in the layout of VOC."""

    def png(image: Image.Image) -> bytes:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return stream.getvalue()

    photos = [(f"VOC/JPEGImages/{index:03d}.png", png(Image.fromarray(drawn.photo(index)))) for index in range(8)]
    masks = [(f"VOC/SegmentationClass/{index:03d}.png", png(drawn.ids(0, 15, 255)(index))) for index in range(8)]
    names = [f"{index:03d}" for index in range(8)]
    folder = "VOC/ImageSets/Segmentation"
    lists = [
        (f"{folder}/train.txt", "\n".join(names[:6]).encode()),
        (f"{folder}/val.txt", "\n".join(names[6:]).encode()),
    ]
    servers = [serve(zipped(*photos), cut_off, "photos.zip"), serve(zipped(*masks, *lists), whole, "masks.zip")]
    made = Entry(
        title="drawn",
        format="voc",
        licence="academic",
        use="non-commercial",
        citation="Nobody, 2026",
        page="http://localhost",
        archives=tuple(server.archive for server in servers),
        root="VOC",
        photos={"train": 6, "val": 2},
    )
    monkeypatch.setitem(catalogue.CATALOGUE, "drawn", made)
    return made, servers


def test_a_set_is_fetched_checked_and_says_what_binds_it(
    tmp_path: Path, entry: tuple[Entry, list[Server]], capsys: pytest.CaptureFixture[str]
) -> None:
    fetch.fetch("drawn", tmp_path / "D")
    output = capsys.readouterr().err
    assert (
        output.index("licence: academic; commercial use not allowed")
        < output.index("cite: Nobody, 2026")
        < output.index("fetching photos.zip")
    )
    assert "train 6, val 2 photos" in output
    assert {path.name for path in (tmp_path / "D").iterdir()} == {"VOC", "fetched.json"}
    data = open_dataset(DataConfig(format="voc", root=tmp_path / "D/VOC"), 0)
    assert data.terms_of("").use == "non-commercial" and data.terms_of("").citation == "Nobody, 2026"
    asked = [list(server.asked) for server in entry[1]]
    fetch.fetch("drawn", tmp_path / "D")
    assert [
        server.asked for server in entry[1]
    ] == asked and "was fetched and unpacked before" in capsys.readouterr().err
    (tmp_path / "D/VOC/ImageSets/Segmentation/val.txt").write_text("006\n")
    with pytest.raises(CheckFailed, match="not whole: val 1 of 2"):
        fetch.fetch("drawn", tmp_path / "D")


def test_a_call_that_was_stopped_while_unpacking_goes_on(tmp_path: Path, entry: tuple[Entry, list[Server]]) -> None:
    (tmp_path / "VOC/JPEGImages").mkdir(parents=True)
    (tmp_path / "VOC/JPEGImages/000.png").write_bytes(b"half of i")
    (tmp_path / "fetched.json").write_text("{")
    fetch.fetch("drawn", tmp_path)
    open_dataset(DataConfig(format="voc", root=tmp_path / "VOC"), 0).load("000")


def test_hostile_archives_leave_the_folder_as_it_was(
    tmp_path: Path, serve: Callable[..., Server], entry: tuple[Entry, list[Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(zipped(("VOC/a", b"x"), ("../../evil", b"x")))
    monkeypatch.setitem(catalogue.CATALOGUE, "drawn", replace(entry[0], archives=(server.archive,)))
    with pytest.raises(InputError, match="would lie outside"):
        fetch.fetch("drawn", tmp_path / "D")
    assert [path.name for path in (tmp_path / "D").iterdir()] == ["a.zip"]


def test_a_set_behind_a_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.fetch("ppm100", None)
    output = capsys.readouterr().err
    assert "CC BY-NC-SA 4.0" in output and "1. download PPM-100" in output and "3. make data DATASET=ppm100" in output
    with pytest.raises(InputError, match="no such folder yet"):
        fetch.fetch("ppm100", tmp_path / "none")
    for name in ("image", "matte"):
        (tmp_path / name).mkdir()
    for index in range(100):
        Image.fromarray(drawn.photo(index)).save(tmp_path / f"image/{index:03d}.png")
        if index < 99:
            drawn.smooth(index).save(tmp_path / f"matte/{index:03d}.png")
    with pytest.raises(InputError, match=r"099\.png .* has no mask"):
        fetch.fetch("ppm100", tmp_path)
    (tmp_path / "image/099.png").unlink()
    with pytest.raises(CheckFailed, match="not whole: test_ppm_100 99 of 100"):
        fetch.fetch("ppm100", tmp_path)
    Image.fromarray(drawn.photo(99)).save(tmp_path / "image/099.png")
    drawn.smooth(99).save(tmp_path / "matte/099.png")
    fetch.fetch("ppm100", tmp_path)
    assert json.loads((tmp_path / "terms.json").read_text())["use"] == "non-commercial"


def test_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    fetch.show_sets()
    output = capsys.readouterr().out
    assert all(name in output for name in catalogue.CATALOGUE) and "fetched, 20.4 GB" in output
    with pytest.raises(InputError, match="no such set"):
        fetch.fetch("cocoa", None)
    with pytest.raises(InputError, match="give the folder"):
        fetch.fetch("voc", None)


def test_the_catalogue_is_complete() -> None:
    for name, entry in catalogue.CATALOGUE.items():
        assert entry.format in DATASETS and bool(entry.archives) != bool(entry.steps), name
        assert entry.licence and entry.citation and entry.page.startswith("http")
        assert all(archive.hash.startswith("sha256:") and len(archive.hash) == 71 for archive in entry.archives)
        # text and use agree: a text that forbids it is not called unclear
        assert entry.terms.use == terms.use_of(entry.licence), name
