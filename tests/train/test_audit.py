"""The audit finds planted faults and names them; what is decided on its page is followed."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from portraitseg import workers
from portraitseg.config import Config, parse_config
from portraitseg.data import open_dataset
from portraitseg.data.base import Sample
from portraitseg.errors import InputError
from portraitseg.synthetic import portraits as synthetic
from tests.in_process import open_pool
from train.audit import faults, page, planting, redraw, stage, survey
from train.audit.planting import NAMES, Plant, Planting
from train.audit.survey import Seen
from train.fix import FIXES_NAME, write_fixed

MODEL = "selfie_general"


@lru_cache
def drawn(index: int) -> Sample:
    image, alpha = synthetic.render(index, (240, 180), 5)
    return Sample(f"a/{index}", image, alpha)


def networks(truth: np.ndarray) -> np.ndarray:
    """Three that are right but for a soft outline."""
    soft = cv2.GaussianBlur((truth > 127).astype(np.float32), (0, 0), 2)
    return np.stack([soft, np.clip(1.1 * soft, 0, 1), 0.95 * soft])


def found_in(sample: Sample, truth: np.ndarray, held: faults.Held = "person") -> list[faults.Finding]:
    assert sample.mask is not None
    return faults.find_faults(sample.image, sample.mask > 127, networks(truth), None, held)


def planted(kind: Plant) -> tuple[Sample, np.ndarray]:
    """A photo with the fault, and the truth of what it shows now."""
    for index in range(40):
        sample, other = drawn(index), drawn(index + 1)
        assert sample.mask is not None
        changed = planting.plant(sample, other, Planting(kind, other.key, index))
        if changed is not None:
            # where pixels are new, a person came into the photo
            came = (changed.image != sample.image).any(axis=2)
            return changed, np.where(came, np.uint8(255), sample.mask)
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", [kind for kind in NAMES if kind != "swapped"])
def test_a_planted_fault_is_named(kind: Plant) -> None:
    changed, truth = planted(kind)
    worst = found_in(changed, truth)[0]
    assert worst.kind in NAMES[kind] and worst.severity > 1
    assert all(0 <= value <= 1.01 for value in worst.box)


def test_true_masks_have_no_faults() -> None:
    for index in range(8):
        sample = drawn(index)
        assert sample.mask is not None
        # hair that is drawn strand by strand is ragged
        assert {item.kind for item in found_in(sample, sample.mask) if item.severity >= 1} <= {"ragged"}, index


def test_the_mask_of_another_photo_is_recognised() -> None:
    seen = []
    for index in range(6):
        sample, mask = drawn(index), drawn((index + 1) % 6 if index < 2 else index).mask
        assert sample.mask is not None and mask is not None
        person, probabilities = mask > 127, networks(sample.mask)
        consensus = probabilities.mean(axis=0) > 0.5
        signatures = survey.sign(person), survey.sign(consensus)
        iou = np.count_nonzero(person & consensus) / np.count_nonzero(person | consensus)
        seen.append(
            Seen(
                sample.key,
                iou,
                faults=tuple(faults.find_faults(sample.image, person, probabilities)),
                signatures=signatures,
            )
        )
    worst = stage.rank(seen)[:2]
    assert {(item.key, item.faults[0].kind, item.faults[0].other) for item in worst} == {
        ("a/0", "swapped", "a/1"),
        ("a/1", "swapped", "a/2"),
    }


def test_held_things_may_be_background() -> None:
    sample = drawn(3)
    assert sample.mask is not None
    rows, columns = np.nonzero(sample.mask > 127)
    # a blue thing within the outline, which the mask leaves out
    cut = np.zeros(sample.mask.shape, np.uint8)
    cv2.circle(cut, (int(columns[rows.argmax()]), int(rows.max())), 25, 255, -1)
    image = np.where((cut > 0)[..., None], np.array([20, 40, 220], np.uint8), sample.image)
    without = Sample("a/3", image, np.where(cut > 0, np.uint8(0), sample.mask))
    assert found_in(without, sample.mask)[0].kind == "cut_away"
    assert "cut_away" not in {item.kind for item in found_in(without, sample.mask, "background")}


def test_what_networks_do_not_agree_on_is_no_evidence() -> None:
    changed, truth = planted("bystander_in_mask")
    assert changed.mask is not None
    sure = networks(truth)
    person = changed.mask > 127
    unsure = sure.copy()
    unsure[0] = person
    kinds = [
        max(
            (item.severity for item in faults.find_faults(changed.image, person, given) if item.kind != "ragged"),
            default=0,
        )
        for given in (sure, unsure)
    ]
    assert kinds[1] < kinds[0] / 2


def test_unknown_pixels_are_no_fault() -> None:
    changed, truth = planted("hole")
    assert changed.mask is not None
    ignore = (changed.mask > 127) != (truth > 127)
    assert not [
        item
        for item in faults.find_faults(changed.image, changed.mask > 127, networks(truth), ignore)
        if item.kind == "hole"
    ]


# ---- the command


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten portraits in two splits; of two the mask is inverted, of one the photo is damaged."""
    folder = tmp_path_factory.mktemp("audited") / "DATA"
    for kind in ("images", "masks"):
        (folder / "a" / kind).mkdir(parents=True)
    for index in range(10):
        image, alpha = synthetic.render(index, (240, 180), 5)
        Image.fromarray(image).save(folder / f"a/images/{index}.png")
        Image.fromarray(255 - alpha if index in (2, 7) else alpha).save(folder / f"a/masks/{index}.png")
    lists = {"train": [f"a/{n}" for n in range(8)], "test": ["a/8", "a/9"]}
    (folder / "splits.json").write_text(json.dumps({"splits": lists}))
    return folder


def config_of(root: Path, **data: object) -> Config:
    values = {"data": {"format": "folder", "root": str(root), "mask": "binary", **data}, "train": {"workers": 1}}
    return parse_config(values, "test")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither worker processes nor probes, which `audited` has had already."""
    monkeypatch.setattr(workers, "_job", None)
    for module in (survey, page):
        monkeypatch.setattr(module, "open_pool", open_pool)
    monkeypatch.setattr(stage, "open_file", lambda path: None)


@pytest.fixture(scope="module")
def audited(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audit")
    stage.audit(config_of(root), out, [MODEL], stage.Subject(("train",)), 2)
    return out


def test_the_worst_come_first_and_the_page_is_whole(audited: Path) -> None:
    audit = json.loads((audited / stage.JSON_NAME).read_text())
    assert {row["key"] for row in audit["photos"][:2]} == {"a/2", "a/7"}
    assert audit["photos"][0]["faults"][0]["kind"] == "inverted"
    assert (
        audit["sets"]["a"]["photos"] == 8 and 0 < audit["sets"]["a"]["iou"]["low"] < audit["sets"]["a"]["iou"]["high"]
    )
    text = (audited / stage.PAGE_NAME).read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text) and "default-src 'none'" in text
    assert len(re.findall(r"<figure", text)) == 2


@pytest.mark.usefixtures("in_process")
def test_a_stopped_audit_goes_on_and_another_is_refused(
    root: Path, audited: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    shutil.copytree(audited, tmp_path / "again")
    log = tmp_path / "again" / stage.LOG_NAME
    lines = log.read_text().splitlines()
    # killed in the middle of the last line
    log.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    asked: list[str] = []
    whole = survey._look_at
    monkeypatch.setattr(survey, "_look_at", lambda keys, *others: (asked.extend(keys), whole(keys, *others))[1])
    stage.audit(config_of(root), tmp_path / "again", [MODEL], stage.Subject(("train",)), 2)
    assert asked == [json.loads(lines[-1])["key"]]
    assert (tmp_path / "again" / stage.JSON_NAME).read_bytes() == (audited / stage.JSON_NAME).read_bytes()
    with pytest.raises(InputError, match="another"):
        stage.audit(config_of(root, held="background"), tmp_path / "again", [MODEL], stage.Subject(("train",)), 2)


@pytest.mark.usefixtures("in_process")
def test_bad_use_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such set"):
        stage.audit(config_of(root), tmp_path, [MODEL], stage.Subject(("train",), ("b",)), 5)
    h5 = tmp_path / "a.h5"
    h5.write_bytes(b"")
    with pytest.raises(InputError, match="export the network first"):
        stage.audit(config_of(root), tmp_path, [str(h5)], stage.Subject(("train",)), 2)
    with pytest.raises(InputError, match=r"only \d photos lend themselves"):
        stage.measure(config_of(root), tmp_path, [MODEL], stage.Subject(("train",)), 5, 8)


def test_recall_counts_the_top_alone_and_at_once() -> None:
    def seen(key: str, severity: float) -> Seen:
        return Seen(key, faults=(faults.Finding("hole", severity, (0.0, 0.0, 1.0, 1.0)),))

    ranked = stage.rank([seen(f"a/{n}", float(n)) for n in range(100)])
    # the best three and one in the middle; 5 % of 100 are five
    wanted: Mapping[str, Plant] = {"a/99": "hole", "a/98": "hole", "a/97": "shift", "a/50": "shift"}
    result = stage.recall(ranked, {key: Planting(kind, "a/0", 0) for key, kind in wanted.items()})
    assert result["hole"] == {"planted": 2, "top_5_percent": 1.0, "top_n": 1.0, "named": 1.0}
    assert result["shift"] == {"planted": 2, "top_5_percent": 0.5, "top_n": 0.5, "named": 0.0}


# ---- decisions


def decided(path: Path, **decisions: str) -> Path:
    path.write_text(json.dumps({"schema_version": 1, "decisions": {f"a/{key[1:]}": d for key, d in decisions.items()}}))
    return path


def test_training_leaves_out_what_was_decided_against(root: Path, tmp_path: Path) -> None:
    path = decided(tmp_path / "decisions.json", p0="keep", p1="drop", p2="fix", p8="drop")
    dataset = open_dataset(config_of(root, decisions=str(path)).data, 7)
    assert dataset.splits["train"] == ("a/0", "a/3", "a/4", "a/5", "a/6", "a/7")
    # nothing is chosen on a test split
    assert dataset.splits["test"] == ("a/8", "a/9")
    assert "2 of train" in dataset.remarks[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "not JSON"),
        ("[]", "schema_version"),
        ('{"schema_version": 1, "decisions": {"a/0": "maybe"}}', "maybe"),
        ('{"schema_version": 1, "decisions": {"b/0": "drop"}}', "none of its 1 photos is here"),
        (json.dumps({"schema_version": 1, "decisions": {f"a/{n}": "drop" for n in range(8)}}), "leaves no photo"),
    ],
)
def test_bad_decisions_are_told(root: Path, tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "decisions.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        open_dataset(config_of(root, decisions=str(path)).data, 7)


@pytest.mark.usefixtures("in_process")
def test_masks_are_handed_out_and_come_back(root: Path, tmp_path: Path) -> None:
    config = config_of(root, decisions=str(decided(tmp_path / "decisions.json", p1="drop", p2="fix", p7="fix")))
    out = tmp_path / "redraw"
    redraw.hand_out(config, out, [MODEL])
    given = np.asarray(Image.open(out / "a/masks/2.png"))
    suggested = np.asarray(Image.open(out / "suggestions/a/2.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(out / "a/images/2.png")), synthetic.render(2, (240, 180), 5)[0])
    assert given.shape == suggested.shape and (given != suggested).mean() > 0.9
    # one is taken as suggested, the other only opened and saved by another program
    shutil.copyfile(out / "suggestions/a/2.png", out / "a/masks/2.png")
    Image.open(out / "a/masks/7.png").convert("RGB").save(out / "a/masks/7.png")
    write_fixed(config, tmp_path / "fixed", out)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "fixed/a/masks/2.png")), suggested)
    fixes = json.loads((tmp_path / "fixed" / FIXES_NAME).read_text())
    assert set(fixes["left_out"]) == {"a/1", "a/7"} and fixes["changed"]["a/2"] == ["mask: drawn anew"]
    assert "dropped" in fixes["left_out"]["a/1"] and "still to be drawn" in fixes["left_out"]["a/7"]
    # the folder itself opens as any other, its suggestions aside
    handed = open_dataset(config_of(out).data, 7)
    assert sorted(key for keys in handed.splits.values() for key in keys) == ["a/2", "a/7"]


def test_bad_redrawing_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.decisions"):
        redraw.hand_out(config_of(root), tmp_path / "out", [MODEL])
    nothing = config_of(root, decisions=str(decided(tmp_path / "decisions.json", p1="drop")))
    with pytest.raises(InputError, match="no photo is to be fixed"):
        redraw.hand_out(nothing, tmp_path / "out", [MODEL])
    with pytest.raises(InputError, match=r"redraw\.json"):
        write_fixed(nothing, tmp_path / "fixed", tmp_path)
    with pytest.raises(InputError, match="needs the decisions"):
        write_fixed(config_of(root), tmp_path / "fixed", tmp_path)


# ---- the page in a browser

_DRIVER = """
addEventListener("load", () => {
  const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const Real = Blob;
  let saved = "";
  Blob = class extends Real { constructor(parts, given) { super(parts, given); saved = parts.join(""); } };
  press("f"); press("d"); press("ArrowUp"); press("u"); press("k"); press("s");
  const state = [...document.querySelectorAll("figure")].map((figure) => figure.dataset.decision ?? "");
  const broken = [...document.images].filter((image) => image.complete && !image.naturalWidth).length;
  document.body.innerHTML = "<pre id=out></pre>";
  document.querySelector("#out").textContent = JSON.stringify({ saved: JSON.parse(saved), state, broken });
});
"""


@pytest.mark.full
def test_decisions_by_keyboard(audited: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("NOT OPENED IN A BROWSER: no chromium on PATH; the audit's page is unproven")

    def browse(page: Path) -> tuple[str, str]:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
        command = [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    text = (audited / stage.PAGE_NAME).read_text()
    file = tmp_path / "audit.html"
    file.write_text(text)
    content, console = browse(file)
    # its own script runs under its own policy, a foreign one does not
    assert 'class="now"' in content and "0 of" in content and not console
    file.write_text(text.replace("</main>", "</main><script>document.body.dataset.foreign = 1</script>"))
    content, console = browse(file)
    assert "data-foreign" not in content and "Content Security Policy" in console
    file.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', f"<script>{_DRIVER}</script>", text))
    output = re.search(r"<pre id=\"out\">(.*?)</pre>", browse(file)[0])
    assert output
    result = json.loads(html.unescape(output[1]))
    keys = re.findall(r'data-key="([^"]+)"', text)
    assert result["saved"]["decisions"] == {keys[0]: "keep", keys[1]: "drop"}
    assert result["state"] == ["keep", "drop"] and result["broken"] == 0 and result["saved"]["schema_version"] == 1
