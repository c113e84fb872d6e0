"""The audit's page: one file, nothing loaded from elsewhere, decided by keyboard."""

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from portraitseg import contract, files
from portraitseg.workers import cores, open_pool
from train.audit.faults import WORDS, Finding
from train.audit.survey import Job, Seen, View, load_view
from train.show import difference, fit, tint

_STATIC = Path(__file__).with_name("static")

#: Frames a fault (R, G, B).
_BOX = (255, 0, 160)


def write(path: Path, name: str, job: Job, suspects: Sequence[Seen], audited: int, workers: int) -> None:
    """Writes the page.

    Args:
        path: of the page.
        name: of the data.
        job: photos and networks, which are asked once more for the pictures.
        suspects: the photos to show, the worst first.
        audited: how many were looked at.
        workers: processes; 0: one per core.
    """
    pictures: list[str] = []
    if suspects:
        with open_pool(min(workers or cores(), len(suspects)), job) as pool:
            pictures = list(pool.map(picture, suspects, chunksize=4))
    files.write_text(path, "".join(_page(name, suspects, pictures, audited)))


def picture(seen: Seen) -> str:
    """In a worker: photo, mask, the networks' mask and their difference, as a data URI."""
    panels = draw(load_view(seen.key), seen.faults)
    packed = cv2.imencode(".jpg", panels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(packed.tobytes()).decode()}"


def draw(view: View, faults: Sequence[Finding]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The four panels beside each other, the worst fault framed in the last one."""
    person = view.consensus > contract.PROBABILITY_THRESHOLD
    last = difference(view.image, view.mask, person, view.ignore)
    for item in faults[:1]:
        height, width = person.shape
        left, top = round(item.box[0] * width), round(item.box[1] * height)
        right, bottom = round((item.box[0] + item.box[2]) * width), round((item.box[1] + item.box[3]) * height)
        cv2.rectangle(last, (left - 3, top - 3), (right + 3, bottom + 3), _BOX, 2)
    panels = [view.image, tint(view.image, view.mask), tint(view.image, person), last]
    return fit(panels)


def _page(name: str, suspects: Sequence[Seen], pictures: Sequence[str], audited: int) -> Iterator[str]:
    text = html.escape
    style, script = ((_STATIC / f"audit.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_hash(style)}'; script-src 'sha256-{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    yield (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{policy}"><title>Audit</title><meta name="viewport" content="width=device-width">'
        f"<style>{style}</style>"
    )
    # of these very photos: decisions in the browser's memory are for this page alone
    digest = hashlib.sha256(json.dumps([name, [seen.key for seen in suspects]]).encode()).hexdigest()[:16]
    yield f'<body data-name="{text(name)}" data-digest="{digest}"><header><h1>{text(name)}</h1>'
    yield (
        f"<p>{len(suspects)} of {audited} masks, the worst first: photo, mask, the networks' mask, difference "
        '(<b class="missing">networks alone</b>, <b class="extra">mask alone</b>). Networks err too: the photo decides.'
        "<p><kbd>K</kbd> keep <kbd>F</kbd> fix <kbd>D</kbd> drop <kbd>U</kbd> undecided <kbd>↓</kbd> <kbd>↑</kbd> move "
        '<kbd>N</kbd> next undecided <kbd>S</kbd> save <span id="count"></span> <select id="kind" aria-label="kind">'
        '<option value="">all kinds</option>'
    )
    kinds = dict.fromkeys(seen.faults[0].kind for seen in suspects)
    yield "".join(f'<option value="{kind}">{text(WORDS[kind])}</option>' for kind in kinds)
    yield (
        '</select> <button id="save">save decisions.json</button> <label>go on with '
        '<input type="file" id="load" accept=".json"></label></header><main>'
    )
    for number, (seen, picture) in enumerate(zip(suspects, pictures, strict=True)):
        yield from _figure(number, seen, picture)
    yield f"</main><script>{script}</script></body></html>\n"


def _figure(number: int, seen: Seen, picture: str) -> Iterator[str]:
    text = html.escape
    yield f'<figure id="p{number}" data-key="{text(seen.key)}" data-kind="{seen.faults[0].kind}" tabindex="0">'
    yield f'<img alt="" loading="lazy" src="{picture}"><figcaption><b>{text(seen.key)}</b> '
    for item in seen.faults[:4]:
        skin = ", skin" if item.is_skin and item.kind in ("cut_away", "hole") else ""
        other = f" ({text(item.other)})" if item.other else ""
        yield f"<span>{text(WORDS[item.kind])}{other}{skin} {item.severity:.1f}</span> "
    yield f"<i>IoU {100 * seen.iou:.1f}, networks among themselves {100 * seen.agreement:.1f}</i> "
    yield "".join(f'<button data-as="{name}">{name}</button>' for name in ("keep", "fix", "drop"))
    yield "</figcaption></figure>"


def _hash(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
