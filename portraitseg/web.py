"""`portraitseg web`: the page of apps/web/ on loopback, or as static files that anybody can host.

Python serves a fixed list of files, with headers that forbid the page every other address. LiteRT.js, MediaPipe's
runtime and its network come from npm by the lock of the GPU check in a browser (checks/gpu/browser/package-lock.json);
nothing of them is in the repository.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2

from portraitseg import files, manifest, terms
from portraitseg.errors import InputError
from portraitseg.segment import released
from portraitseg.tflite import flatbuffer, metadata
from portraitseg.tflite.graph import DAMAGE

HOST = "127.0.0.1"
PORT = 8765

#: The page's sources; an installed package has none.
SOURCES = Path(__file__).resolve().parents[1] / "apps/web"

#: Nothing but this server's own files: no address elsewhere, no script in the page, no eval but WebAssembly's.
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "worker-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "media-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
POLICY = "; ".join(f"{name} {value}" for name, value in _POLICY.items())

#: COOP and COEP isolate the page, without which a browser gives WASM no threads.
HEADERS = {
    # a page's own meta element cannot say this
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
}

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".png": "image/png",
    ".jpg": "image/jpeg",
}

#: LiteRT.js picks one of these; the one with JSPI is not asked for.
_RUNTIMES = ("litert_wasm_internal", "litert_wasm_compat_internal", "litert_wasm_threaded_internal")

#: Of MediaPipe's packages: its runtime for classic workers, and its network for selfies.
_VISION = ("vision_bundle.mjs", "wasm/vision_wasm_internal.js", "wasm/vision_wasm_internal.wasm")
_SELFIE = "selfie_segmentation/selfie_segmentation.tflite"
_SELFIE_SIZE = [256, 256]

#: The one bare name that a module of LiteRT.js imports. Workers have no import maps, so it becomes an address.
_BARE = b'from "@litertjs/wasm-utils"'

#: Of the drawn sample portraits: indices and size (height, width). Networks of photos find few drawn persons whole;
#: these four every one of ours does, and MediaPipe's.
_SAMPLES = (44, 43, 51, 8)
_SAMPLE_SIZE = (960, 720)

#: Whose IoU stands beside a network's name.
_SPLIT = "test_eg1800"

_ABOUT = (
    f"IoU in percent, of the int8 file on {_SPLIT}, before edges are refined. “Research only”: the photos that a "
    "network learnt from bind its use. The others may be shipped (Apache-2.0). Runtimes: LiteRT.js and MediaPipe, by "
    "Google, Apache-2.0. The sample portraits are drawn by a program."
)

#: Address, without the leading slash → a file, or what it holds.
Site = dict[str, Path | bytes]


def check_sources() -> None:
    """Whether the page is here.

    Raises:
        InputError: an installed package, which has none.
    """
    if not (SOURCES / "index.html").is_file():
        raise InputError("the page is in the repository, not in the installed package: clone it, then `make web`")


def collect(packages: Path, models: Sequence[Path] = ()) -> Site:
    """Everything that the page may ask for.

    Args:
        packages: folder in which npm installed LiteRT.js and MediaPipe.
        models: further .tflite files to choose from.

    Raises:
        InputError: no sources here, a package or a network that is damaged, a model that is not there.
    """
    check_sources()
    site: Site = {path.name: path for path in sorted(SOURCES.iterdir()) if path.suffix in _TYPES}
    site["index.html"] = (SOURCES / "index.html").read_text(encoding="utf-8").replace("@CSP@", POLICY).encode()
    site |= _runtime(packages)
    entries = [_released(name, site) for name in sorted(released.names(), key=lambda name: name != released.DEFAULT)]
    entries.insert(1, _mediapipe(packages, site))
    entries += [_foreign(path, site) for path in models]
    for number, index in enumerate(_SAMPLES, 1):
        site[f"samples/{number}.jpg"] = _sample(index)
    described = {
        "networks": entries,
        "samples": sorted(name for name in site if name.startswith("samples/")),
        "about": _ABOUT,
    }
    site["networks.json"] = json.dumps(described, indent=1).encode()
    return site


def _runtime(packages: Path) -> Site:
    """LiteRT.js as it is, but for the one name that a worker could not resolve."""
    core, utils = (packages / "node_modules/@litertjs" / name for name in ("core", "wasm-utils"))
    try:
        index = (core / "dist/index.js").read_bytes()
        version = json.loads((core / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{core}: LiteRT.js is missing or damaged: delete {packages} and try again") from error
    if index.count(_BARE) != 1:
        raise InputError(f"{core}: another LiteRT.js than this page was written for: delete {packages} and try again")
    site: Site = {
        "litert/index.js": index.replace(_BARE, b'from "./wasm-utils.js"'),
        "litert/wasm-utils.js": utils / "dist/index.js",
        "litert/NOTICE.txt": (
            f"@litertjs/core and @litertjs/wasm-utils {version}, Google LLC, Apache-2.0, from npm. In index.js the "
            "import of @litertjs/wasm-utils names its file.\n"
        ).encode(),
    }
    for name in _RUNTIMES:
        for suffix in (".js", ".wasm"):
            site[f"litert/wasm/{name}{suffix}"] = core / "wasm" / f"{name}{suffix}"
    vision = packages / "node_modules/@mediapipe/tasks-vision"
    site |= {f"mediapipe/{name}": vision / name for name in _VISION}
    site["mediapipe/NOTICE.txt"] = (
        b"@mediapipe/tasks-vision and @mediapipe/selfie_segmentation, Google LLC, Apache-2.0, from npm.\n"
    )
    missing = next((path for path in site.values() if isinstance(path, Path) and not path.is_file()), None)
    if missing is not None:
        raise InputError(f"{missing}: missing: delete {packages} and try again")
    return site


def _released(name: str, site: Site) -> dict[str, Any]:
    """The entry of a released network; its files are added to the site."""
    cpu = released.find(name)
    listed = manifest.read(manifest.Manifest, cpu.parent / manifest.MANIFEST_NAME)
    recommended = json.loads((cpu.parent / manifest.RECOMMENDED_NAME).read_text(encoding="utf-8"))
    paths = {"wasm": cpu, "webgpu": cpu.parent / recommended["gpu"]}
    entry = next(entry for entry in listed.files if entry.path == cpu.name)
    source = listed.source
    if source.refine is None or source.smooth is None:
        raise InputError(f"{cpu.parent}: no parameters were chosen: python -m benchmark refine --choose --runs {name}")
    bound = [] if terms.use_of_source(source) == "any" else ["research only"]
    scores = [score.iou for score in entry.quality or () if score.split == _SPLIT and score.iou is not None]
    described: dict[str, Any] = {
        "name": name,
        "title": ", ".join([name, *(f"IoU {iou * 100:.1f}" for iou in scores), f"{entry.bytes / 1e6:.1f} MB", *bound]),
        "isDefault": name == released.DEFAULT,
        "size": list(entry.input.shape[1:3]),
        "refine": source.refine.parameters,
        "smooth": source.smooth.parameters,
        "files": {engine: _add(path, f"networks/{name}/{path.name}", site) for engine, path in paths.items()},
    }
    golden = cpu.parent / "golden"
    if (golden / "golden.json").is_file():
        known = json.loads((golden / "golden.json").read_text(encoding="utf-8"))
        masks = {engine: golden / known["masks"][path.name] for engine, path in paths.items()}
        for path in (golden / known["portrait"], *masks.values()):
            site[f"networks/{name}/golden/{path.name}"] = path
        described["golden"] = known["tolerance"] | {
            "portrait": f"networks/{name}/golden/{known['portrait']}",
            "masks": {engine: f"networks/{name}/golden/{path.name}" for engine, path in masks.items()},
        }
    return described


def _foreign(path: Path, site: Site) -> dict[str, Any]:
    """The entry of somebody's file; whether the page can run it, the page says."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return _entry(path.stem, path.stem, _add(path, f"networks/{path.name}", site))


def _mediapipe(packages: Path, site: Site) -> dict[str, Any]:
    """The entry of MediaPipe's own network, with the metadata that its own runtime asks for and the package has not."""
    path = packages / "node_modules/@mediapipe" / _SELFIE
    try:
        content = path.read_bytes()
        if flatbuffer.read_metadata(content, metadata.METADATA_NAME) is None:
            card = metadata.Card("selfie_segmentation", "npm", "Apache-2.0 (MediaPipe, Google)", "as published", "rgb")
            content = metadata.attach(content, card)
    except (OSError, *DAMAGE) as error:
        raise InputError(f"{path}: missing or damaged: delete {packages} and try again") from error
    described = _add(path, f"networks/mediapipe/{path.name}", site, content)
    title = f"MediaPipe's selfie segmentation, float, {len(content) / 1e6:.1f} MB"
    return _entry("mediapipe", title, described) | {"size": _SELFIE_SIZE}


def _entry(name: str, title: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """A network for which no parameters were chosen."""
    from portraitseg.refine import EdgeRefiner
    from portraitseg.smooth import MaskSmoother

    smooth = {key: value for key, value in vars(MaskSmoother()).items() if not key.startswith("_")}
    by_runtime = {"wasm": described, "webgpu": described}
    return {"name": name, "title": title, "refine": vars(EdgeRefiner()), "smooth": smooth, "files": by_runtime}


def _add(path: Path, address: str, site: Site, content: bytes | None = None) -> dict[str, Any]:
    """A file of the site, as the page checks it."""
    if address in site:
        raise InputError(f"{path}: two files of this name: rename one")
    content = path.read_bytes() if content is None else content
    site[address] = content
    return {"url": address, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _sample(index: int) -> bytes:
    """A drawn portrait as JPEG."""
    from portraitseg.synthetic.portraits import render

    image, _ = render(index, _SAMPLE_SIZE)
    packed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    return packed.tobytes()


def build(folder: Path, site: Site) -> None:
    """Writes the site as static files; what was in the folder goes.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / "networks.json").is_file())
    ):
        raise InputError(f"{folder}: holds something else than this page: choose another folder")
    # Netlify and Cloudflare Pages read this file; other hosts need the same headers in their settings
    headers = "/*\n" + "".join(f"  {name}: {value}\n" for name, value in HEADERS.items())
    with files.replacing(folder) as scratch:
        for address, content in {**site, "_headers": headers.encode()}.items():
            path = scratch / address
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def make_server(site: Site, port: int = PORT, headers: Mapping[str, str] = HEADERS) -> ThreadingHTTPServer:
    """A server on loopback that knows the site's files and nothing else.

    Raises:
        InputError: the port is taken.
    """
    # another page's name may be made to point here (DNS rebinding): known once there is a port
    hosts: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "portraitseg", ""
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, with_body: bool) -> None:
            is_ours = self.headers.get("Host") in hosts
            address = self.path.split("?")[0].removeprefix("/") or "index.html"
            file = site.get(address) if is_ours else None
            status = 200 if file is not None else 404 if is_ours else 421
            content = b"" if file is None else file if isinstance(file, bytes) else file.read_bytes()
            self.send_response(status)
            self.send_header("Content-Type", _TYPES.get(Path(address).suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-cache")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing of each file."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise InputError(f"port {port}: {files.explain(error)}: choose another one with --port") from error
    hosts |= {f"{name}:{server.server_port}" for name in (HOST, "localhost")}
    return server
