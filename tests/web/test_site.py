"""The server and the static files: a fixed list, strict headers, loopback alone."""

import hashlib
import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from portraitseg import web
from portraitseg.__main__ import app
from portraitseg.errors import InputError
from portraitseg.segment import released
from portraitseg.tflite import flatbuffer, metadata
from tests.web.conftest import serving


def ask(url: str, path: str, method: str = "GET", host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """Not by urllib, which tidies a path before it is sent."""
    address = url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or address)
    connection.endheaders()
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, dict(response.headers), content


def described(pages: web.Site) -> dict[str, Any]:
    content = pages["networks.json"]
    assert isinstance(content, bytes)
    return json.loads(content)


def test_what_is_on_the_list_is_served_and_nothing_else(pages: web.Site) -> None:
    with serving(pages) as url:
        assert url.startswith("http://127.0.0.1:")
        for address in ("", *pages):
            status, headers, content = ask(url, f"/{address}")
            assert (status, len(content)) == (200, int(headers["Content-Length"])), address
            assert headers.items() >= web.HEADERS.items()
        assert ask(url, "/worker.js?again")[0] == 200
        for path in ("/../pyproject.toml", "//etc/passwd", "/%2e%2e/README.md", "/litert/", "/package.json", "/."):
            status, headers, content = ask(url, path)
            assert (status, content) == (404, b""), path
            assert "Content-Security-Policy" in headers
        assert ask(url, "/page.mjs", "HEAD")[::2] == (200, b"")
        assert ask(url, "/page.mjs", "PUT")[0] == 501


def test_another_name_for_this_machine_is_refused(pages: web.Site) -> None:
    """A stranger's page whose name is made to point here would otherwise be on our origin."""
    with serving(pages) as url:
        port = url.rstrip("/").rsplit(":", 1)[1]
        assert ask(url, "/", host=f"localhost:{port}")[0] == 200
        assert ask(url, "/", host=f"evil.example:{port}")[::2] == (421, b"")


def test_it_listens_on_loopback_alone(pages: web.Site) -> None:
    with web.make_server(pages, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(InputError, match=rf"port {server.server_port}.*--port"):
            web.make_server(pages, server.server_port)


def test_the_policy_names_no_other_address(pages: web.Site) -> None:
    policy = dict(part.split(" ", 1) for part in web.HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe-inline" not in str(policy)
    assert "'unsafe-eval'" not in str(policy)
    assert not re.search(r"https?:|\*", str(policy))
    page = pages["index.html"]
    assert isinstance(page, bytes)
    # for hosts that send no headers
    assert f'content="{web.POLICY}"'.encode() in page
    assert b"@CSP@" not in page


def test_nothing_in_the_page_is_inline_or_elsewhere(pages: web.Site) -> None:
    for path in sorted(web.SOURCES.iterdir()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|(?<!:)//[a-z]+\.[a-z]", text), path
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]* src=)|\son\w+=|\sstyle=", text)


def test_every_address_that_is_named_is_there(pages: web.Site) -> None:
    for path in sorted(web.SOURCES.iterdir()):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"""(?:from|import\(|href=|src=)\s*"(?:\./)?([\w./-]+\.\w+)\"""", text):
            assert name in pages, f"{path.name}: {name}"
    index = pages["litert/index.js"]
    assert isinstance(index, bytes)
    assert b'from "./wasm-utils.js"' in index
    description = described(pages)
    names = [entry["name"] for entry in description["networks"]]
    assert names[:2] == [released.DEFAULT, "mediapipe"]
    assert sorted(names) == sorted([*released.names(), "mediapipe"])
    assert [entry["name"] for entry in description["networks"] if entry.get("isDefault")] == [released.DEFAULT]
    # what may not be used for money says so
    free = {entry["name"] for entry in description["networks"] if "research only" not in entry["title"]}
    assert free == {*names[:2], "selfie_general_medium"}
    for entry in description["networks"]:
        for file in entry["files"].values():
            content = pages[file["url"]]
            assert isinstance(content, bytes)
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (file["sha256"], file["bytes"])
        if entry["name"] != "mediapipe":
            assert {entry["golden"]["portrait"], *entry["golden"]["masks"].values()} <= pages.keys()
    assert len(description["samples"]) == 4
    assert set(description["samples"]) <= pages.keys()


def test_ids_that_the_page_looks_for_exist() -> None:
    ids = set(re.findall(r'\bid="([\w-]+)"', (web.SOURCES / "index.html").read_text(encoding="utf-8")))
    used = set(re.findall(r'find\("([\w-]+)"\)', (web.SOURCES / "page.mjs").read_text(encoding="utf-8")))
    assert used
    assert used <= ids


def test_defaults_of_a_network_without_parameters_are_pythons(stand_in: Path, tmp_path: Path) -> None:
    model = tmp_path / "own.tflite"
    model.write_bytes(b"    TFL3")
    pages = web.collect(stand_in, [model])
    entry = described(pages)["networks"][-1]
    assert (entry["name"], entry["files"]["wasm"]["bytes"]) == ("own", 8)
    text = (web.SOURCES / "page.mjs").read_text(encoding="utf-8")
    for kind in ("refine", "smooth"):
        written = re.search(rf"  {kind}: {{([^}}]*)}}", text)
        assert written is not None
        values = {key: float(value) for key, value in re.findall(r"(\w+): ([\d.e-]+)", written[1])}
        assert values == entry[kind], kind
    with pytest.raises(InputError, match="two files of this name"):
        web.collect(stand_in, [model, model])
    with pytest.raises(InputError, match="no such file"):
        web.collect(stand_in, [tmp_path / "none.tflite"])


def test_static_files_are_the_same(pages: web.Site, tmp_path: Path) -> None:
    folder = tmp_path / "web-build"
    web.build(folder, pages)
    (folder / "old.js").write_text("")
    web.build(folder, pages)
    built = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert built == {*pages, "_headers"}
    for address, content in pages.items():
        assert (folder / address).read_bytes() == (content if isinstance(content, bytes) else content.read_bytes())
    headers = (folder / "_headers").read_text()
    assert all(f"  {name}: {value}\n" in headers for name, value in web.HEADERS.items())


def test_a_folder_of_something_else_is_not_replaced(pages: web.Site, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "me.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="photos: holds something else"):
        web.build(folder, pages)
    assert (folder / "me.jpg").exists()


@pytest.mark.parametrize(
    "name",
    [
        "@litertjs/core/dist/index.js",
        "@litertjs/wasm-utils/dist/index.js",
        "@litertjs/core/wasm/litert_wasm_internal.wasm",
        "@mediapipe/tasks-vision/vision_bundle.mjs",
        f"@mediapipe/{web._SELFIE}",
    ],
)
def test_a_damaged_package_is_named(name: str, stand_in: Path) -> None:
    (stand_in / "node_modules" / name).unlink()
    with pytest.raises(InputError, match=r"delete .*packages and try again"):
        web.collect(stand_in)


def test_mediapipes_network_gets_the_metadata_that_it_lacks(stand_in: Path) -> None:
    path = stand_in / "node_modules/@mediapipe" / web._SELFIE
    pages = web.collect(stand_in)
    assert pages["networks/mediapipe/selfie_segmentation.tflite"] == path.read_bytes()
    bare = path.read_bytes().replace(metadata.METADATA_NAME.encode(), b"X" * len(metadata.METADATA_NAME))
    path.write_bytes(bare := bare[: bare.index(b"PK\x03\x04")])
    content = web.collect(stand_in)["networks/mediapipe/selfie_segmentation.tflite"]
    assert isinstance(content, bytes)
    assert flatbuffer.read_metadata(bare, metadata.METADATA_NAME) is None
    assert flatbuffer.read_metadata(content, metadata.METADATA_NAME) is not None
    path.write_bytes(b"words")
    with pytest.raises(InputError, match=r"selfie_segmentation\.tflite: missing or damaged: delete"):
        web.collect(stand_in)


def test_another_version_of_the_package_is_refused(stand_in: Path) -> None:
    (stand_in / "node_modules/@litertjs/core/dist/index.js").write_text("export {};\n")
    with pytest.raises(InputError, match=r"another LiteRT\.js"):
        web.collect(stand_in)


def test_an_installed_package_says_where_the_page_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web, "SOURCES", tmp_path)
    with pytest.raises(InputError, match="clone it, then `make web`"):
        web.check_sources()


def test_the_command_writes_the_files(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from portraitseg.checks.gpu import web as packages

    monkeypatch.setattr(packages, "FOLDER", stand_in)
    monkeypatch.setattr(packages, "install", lambda: None)
    with pytest.raises(SystemExit) as ended:
        app(["web", "--build", str(tmp_path / "out")])
    assert ended.value.code == 0
    assert (tmp_path / "out/index.html").is_file()
    with socket.create_server((web.HOST, 0)) as taken, pytest.raises(InputError, match="--port"):
        app(["web", "--port", str(taken.getsockname()[1])])
