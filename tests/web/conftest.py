"""A site of stand-in packages, and headless Chromium on the real one."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from portraitseg import web
from portraitseg.checks.gpu import web as packages
from portraitseg.segment import released

DRIVER = Path(__file__).with_name("driver.mjs")

#: Address and steps → what was seen; see driver.mjs.
Drive = Callable[..., dict[str, Any]]


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder as npm leaves it, with the names of LiteRT.js and MediaPipe and none of their code."""
    return write_stand_in(tmp_path / "packages")


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> web.Site:
    """The site with them."""
    return web.collect(write_stand_in(tmp_path_factory.mktemp("web") / "packages"))


def write_stand_in(folder: Path) -> Path:
    for name in ("core/dist/index.js", "wasm-utils/dist/index.js"):
        path = folder / "node_modules/@litertjs" / name
        path.parent.mkdir(parents=True)
        path.write_text('import { a } from "@litertjs/wasm-utils";\n')
    core = folder / "node_modules/@litertjs/core"
    (core / "package.json").write_text('{"version": "2.5.3"}')
    (core / "wasm").mkdir()
    for name in web._RUNTIMES:
        (core / f"wasm/{name}.js").write_text("// loader\n")
        (core / f"wasm/{name}.wasm").write_bytes(b"\0asm")
    media = folder / "node_modules/@mediapipe"
    for name in (*(f"tasks-vision/{name}" for name in web._VISION), web._SELFIE):
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        (media / name).write_bytes(b"")
    shutil.copyfile(released.find(released.DEFAULT), media / web._SELFIE)
    return folder


@contextmanager
def serving(site: web.Site, headers: Mapping[str, str] = web.HEADERS) -> Iterator[str]:
    """The site on a free port; its address."""
    with web.make_server(site, 0, headers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{web.HOST}:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def site() -> web.Site:
    """The real one, where its packages and a browser are."""
    if (reason := packages.missing()) is not None:
        pytest.skip(f"NOT RUN: the page in Chromium: {reason}")
    return web.collect(packages.FOLDER)


@pytest.fixture
def drive(site: web.Site, tmp_path: Path) -> Drive:
    """Runs steps in headless Chromium on the site (or another one), and fails where a step does."""

    def run(
        steps: Sequence[Sequence[Any]],
        pages: web.Site | None = None,
        headers: Mapping[str, str] = web.HEADERS,
        **options: Any,
    ) -> dict[str, Any]:
        with serving(pages or site, headers) as url:
            job = {
                "packages": str(packages.FOLDER),
                "chromium": packages.find_browser(),
                "url": url,
                "folder": str(tmp_path),
                "steps": [["open"], *steps],
                **options,
            }
            (tmp_path / "job.json").write_text(json.dumps(job))
            command = ["node", str(DRIVER), str(tmp_path / "job.json")]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            seen = json.loads((tmp_path / "seen.json").read_text()) if (tmp_path / "seen.json").exists() else {}
            assert ended.returncode == 0, f"{seen.get('error')} {ended.stderr} {seen.get('console', [])[-5:]}"
            return seen | {"url": url}

    return run
