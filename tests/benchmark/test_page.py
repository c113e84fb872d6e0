"""The report: what it holds, that nothing in it is taken for markup, and that it works in a browser."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import intervals, latency
from benchmark.pages.gallery import EXTRA, MISSING, difference, worst_keys
from benchmark.pages.page import Content, build
from benchmark.tables.results import Row
from portraitseg.errors import InputError
from portraitseg.markup import Markup, element, join
from portraitseg.plots import Axis, Point, frontier, scatter, ticks
from tests.benchmark.test_readme import row

VOID = {"meta", "input", "img", "br"}


class Outline(html.parser.HTMLParser):
    """Checks that every element is closed where it should be, and notes what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        assert len(self.ids) == len(set(self.ids)), "an id is there twice"

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"


def command(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture
def measured(core_ml, monkeypatch):
    """A run that was measured, robustness included."""
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    # neither the intervals nor the latencies are under test
    monkeypatch.setattr(intervals, "RESAMPLES", 50)
    monkeypatch.setitem(latency.PROFILES, "quick", latency.Profile(warmup=0, rounds=latency.MIN_ROUNDS, budget_s=1.0))
    command("run", "--run", "tiny", "--robustness")
    return Path("runs/tiny/benchmark")


def test_report_of_a_run(measured):
    assert command("report", "--run", "tiny", "--photos", "2").exit_code == 0
    text = (measured / "report.html").read_text()
    outline = Outline(text)
    # two files × two splits and the one that needs macOS, two manifests with three files, one benchmark
    assert outline.ids.count("rows") == 1 and "not_run: needs macOS" in text
    for section in ("results", "plots", "robustness", "flicker", "photos", "checks", "origin", "history"):
        assert section in outline.ids
    # input, truth, and mask with difference of two files, for two photos of two splits
    assert outline.seen.count("img") == 2 * 2 * (2 + 2 * 2)
    # IoU against latency and against size, for each split
    assert outline.seen.count("svg") == 4
    assert all(link.startswith(("#", "data:image/")) for link in outline.links), "the page must load nothing"
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids), "a link leads nowhere"
    assert "a tiny file has no Keras model" in text and "test_a_" in text


def test_report_without_photos(measured):
    assert command("report", "--run", "tiny", "--photos", "0").exit_code == 0
    assert "img" not in Outline((measured / "report.html").read_text()).seen
    shutil.rmtree("photos")
    done = command("report", "--run", "tiny")
    assert done.exit_code == 0 and "are not here" in done.stderr
    with pytest.raises(InputError, match="nowhere"):
        command("report", "--run", "tiny", "--data", "nowhere")


def test_report_of_other_photos_under_the_same_name(measured):
    splits = json.loads(Path("photos/splits.json").read_text())
    splits["splits"]["test_a"] = splits["splits"]["test_a"][:2]
    del splits["sha256_16"]
    Path("photos/splits.json").write_text(json.dumps(splits))
    done = command("report", "--run", "tiny")
    assert "not the one that was measured" in done.stderr
    assert "test_a_0, mean" not in (measured / "report.html").read_text()


def test_report_of_a_run_that_was_not_measured(workspace):
    with pytest.raises(InputError, match="benchmark run --run tiny"):
        command("report", "--run", "tiny")


HOSTILE = "<script>alert(1)</script>\"'&amp;<!-- x"


def test_everything_is_escaped():
    rows = [row(f"{HOSTILE}.tflite", split=HOSTILE, model=HOSTILE, reason=HOSTILE, reference=HOSTILE, machine=HOSTILE)]
    history = [{"time": HOSTILE, "rows": [], "conditions": [HOSTILE], "tools": {HOSTILE: HOSTILE}}]
    text = build(Content(run=HOSTILE, rows=rows, manifests={}, history=history, no_photos=HOSTILE))
    outline = Outline(text)
    assert outline.seen.count("script") == 1 and "alert(1)</script>" not in text and "<!-- x" not in text


def test_the_policy_allows_this_script_alone():
    text = build(Content(run="r", rows=[row()], manifests={}))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert policy and script and text.count("<script") == 1
    directives = dict(part.strip().split(" ", 1) for part in html.unescape(policy[1]).split(";"))
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
        # default-src does not cover these two
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # before anything that could load something
    assert text.index("Content-Security-Policy") < min(text.index("<style"), text.index("<script"))


def test_page_without_a_single_figure():
    refused = Row(file="a.mlpackage", model="net", valid=False, reason="not_run: needs macOS")
    outline = Outline(build(Content(run="r", rows=[refused], manifests={})))
    assert "svg" not in outline.seen and "rows" in outline.ids


def test_elements():
    assert element("p", "a<b", Markup("<i>c</i>"), None, class_="x", data_value='"', hidden=True, title=None) == (
        '<p class="x" data-value="&quot;" hidden>a&lt;b<i>c</i></p>'
    )
    assert element("img", src="data:,") == '<img src="data:,">' and join("<", Markup("<")) == "&lt;<"


def test_frontier():
    a, b, c, d = (
        Point(1.0, 90.0, "a", "k"),
        Point(2.0, 95.0, "b", "k"),
        Point(3.0, 94.0, "c", "k"),
        Point(1.0, 80.0, "d", "k"),
    )
    assert frontier([c, d, b, a]) == [a, b]
    # equals do not push each other out
    assert frontier([a, Point(1.0, 90.0, "e", "k")]) == [a]
    text = scatter([a, b, c, d], "title", "ms", "IoU %").to_svg("title")
    Outline(text)
    # four points, and the kind in the legend
    assert text.count("<circle") == 5 and text.count(" best") == 3 and "IoU % 95.00" in text


def test_plot_of_one_point_and_of_equal_ones():
    for points in ([Point(0.0, 0.0, "a", "k")], [Point(2.0, 95.0, "a", "k"), Point(2.0, 95.0, "b", "k")]):
        assert "nan" not in scatter(points, "t", "x", "y").to_svg("t")


def test_a_slow_file_makes_the_axis_logarithmic():
    slow = [Point(cost, 90.0 + cost, f"f{cost}", "k") for cost in (0.5, 1.0, 2.0, 40.0)]
    axis = Axis.of([point.cost for point in slow], 0, 100, from_zero=True)
    assert axis.is_log and axis.ticks() == [0.5, 1, 2, 5, 10, 20, 50][: len(axis.ticks())] and axis.low > 0
    # equal factors, equal distances
    assert axis(1.0) - axis(0.5) == pytest.approx(axis(2.0) - axis(1.0))
    assert not Axis.of([0.5, 1.0, 2.0], 0, 100, from_zero=True).is_log
    assert not Axis.of([0.0, 40.0], 0, 100, from_zero=True).is_log
    Outline(scatter(slow, "t", "x", "y").to_svg("t"))


def test_names_of_the_frontier_do_not_cover_each_other():
    close = [Point(1.0, 95.0, "first-name", "k"), Point(1.01, 95.01, "second-name", "k"), Point(3.0, 97.0, "far", "k")]
    crowd = [Point(1.0 + index / 1000, 94.9, f"beaten-{index}", "k") for index in range(20)]
    text = scatter([*crowd, *close], "t", "x", "y").to_svg("t")
    # those of the frontier are written, of the crowd only what has room
    assert all(f">{point.label}<" in text for point in close) and 0 < len(re.findall("<text[^>]*>beaten", text)) < 10
    at = {name: re.search(rf'x="([\d.]+)" y="([\d.]+)"[^>]*>{name}<', text) for name in ("first-name", "second-name")}
    first, second = at.values()
    assert first and second and first.groups() != second.groups()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.123, 0.129), (95.83, 96.16), (-3.0, 250.0), (0.0, 1e-6)])
def test_ticks_are_round_and_inside(low, high):
    values = ticks(low, high)
    assert 3 <= len(values) <= 11 and all(low - 1e-9 <= value <= high + 1e-9 for value in values)
    assert ticks(2.0, 2.0) == [2.0]


def test_difference_and_order_of_photos():
    image = np.full((4, 6, 3), 100, np.uint8)
    truth, mask = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    truth[:, :3], mask[:, 1:4] = True, True
    picture = difference(image, mask, truth)
    assert tuple(picture[0, 0]) == MISSING and tuple(picture[0, 3]) == EXTRA and tuple(picture[0, 1]) == (178,) * 3
    photos = {
        ("a", "s"): {"x": {"iou": 0.9}, "y": {"iou": 0.5}, "z": {"iou": 0.2}},
        ("b", "s"): {"x": {"iou": 0.1}, "y": {"iou": 0.4}},
    }
    # z was not measured with b: a mean over other files would not compare
    assert worst_keys(photos, "s", ["a", "b"], 5) == [("y", 0.45), ("x", 0.5)]
    assert worst_keys(photos, "other", ["a"], 5) == []


DRIVER = """
const faults = [];
window.addEventListener("error", (event) => faults.push(event.message));
window.addEventListener("load", () => {
  const rows = () => [...document.querySelector("#rows").tBodies[0].rows];
  const column = [...document.querySelector("#rows").tHead.rows[0].cells].findIndex((c) => c.textContent === "IoU %");
  const values = () => rows().map((row) => row.cells[column].textContent);
  const button = document.querySelector("#rows").tHead.rows[0].cells[column].querySelector("button");
  const result = { before: values() };
  button.click(); result.rising = values();
  button.click(); result.falling = values();
  const form = document.querySelector("#filters");
  const visible = () => rows().filter((row) => !row.hidden && row.offsetHeight > 0).length;
  const set = (name, key, value) => { form.elements[name][key] = value; form.dispatchEvent(new Event("input")); };
  result.all = visible();
  set("words", "value", "ONNX test_b"); result.words = visible();
  set("words", "value", ""); set("split", "value", "test_a"); result.split = visible();
  set("split", "value", ""); set("valid", "checked", true); result.valid = visible();
  const holes = [...document.querySelector("#rows").tHead.rows[0].cells].find((c) => c.textContent === "Holes");
  result.further = [holes.offsetWidth > 0];
  form.elements.further.checked = true; form.elements.further.dispatchEvent(new Event("input"));
  result.further.push(holes.offsetWidth > 0);
  const photos = document.querySelector("#photo_filter");
  const figures = () => [...document.querySelectorAll(".exhibit figure")].filter((f) => f.offsetWidth > 0).length;
  result.figures = [figures()];
  photos.elements.words.value = "ONNX nhwc"; photos.dispatchEvent(new Event("input")); result.figures.push(figures());
  result.pictures = [...document.images].filter((image) => image.complete && !image.naturalWidth).length;
  result.faults = faults;
  document.body.innerHTML = "<pre id=out></pre>";
  document.querySelector("#out").textContent = JSON.stringify(result);
});
"""


def browse(page: Path) -> tuple[str, str]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("NOT OPENED IN A BROWSER: no chromium on PATH; sorting and filtering are unproven")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    profile = f"--user-data-dir={page.parent / 'chromium'}"
    done = subprocess.run(
        [chromium, *options, profile, page.resolve().as_uri()], capture_output=True, text=True, timeout=120
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.full
def test_in_a_browser(measured):
    command("report", "--run", "tiny", "--photos", "2")
    page = measured / "report.html"
    content, console = browse(page)
    # our script ran to its end under the page's own policy
    assert 'data-ready="true"' in content and console == "" and ">5 rows<" in content
    text = page.read_text()
    driven = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', f"<script>{DRIVER}</script>", text)
    other = page.with_name("driven.html")
    other.write_text(driven)
    content, console = browse(other)
    output = re.search(r"<pre id=\"out\">(.*?)</pre>", content)
    assert output and console == ""
    result = json.loads(html.unescape(output[1]))
    numbers = [float(value) for value in result["before"] if value]
    # what was not measured is last both ways
    assert result["rising"] == [f"{value:.2f}" for value in sorted(numbers)] + [""]
    assert result["falling"] == [f"{value:.2f}" for value in sorted(numbers, reverse=True)] + [""]
    assert (result["all"], result["words"], result["split"], result["valid"]) == (5, 1, 2, 4)
    # columns on demand; input with truth and two files of four photos, then one file
    assert result["further"] == [False, True] and result["figures"] == [4 * 3, 4 * 2]
    assert result["faults"] == [] and result["pictures"] == 0


@pytest.mark.full
def test_the_policy_stops_a_foreign_script(measured):
    command("report", "--run", "tiny", "--photos", "0")
    page = measured / "foreign.html"
    text = (measured / "report.html").read_text()
    page.write_text(text.replace("</body>", "<script>document.body.dataset.foreign = 1</script></body>"))
    content, console = browse(page)
    assert "data-foreign" not in content and "Content Security Policy" in console
