"""The report: one self-contained HTML page that works offline. It may hold photos of people: it is for local eyes."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmark.pages.gallery import Exhibit
from benchmark.tables.results import Row
from benchmark.tables.views import COLUMNS
from portraitseg.manifest import FileEntry, GpuCheck, Manifest, Parity
from portraitseg.markup import Markup, element, join
from portraitseg.plots import Point, frontier, scatter

_STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True)
class Content:
    """All that the page shows.

    Attributes:
        run: its name.
        rows: of the table, those of a phone included.
        manifests: folder → its manifest.
        history: every benchmark of the run, oldest first.
        robustness, flicker: the lines of robustness.csv and flicker.csv; empty where they were not measured.
        exhibits: photos, worst first; empty where the data are not there.
        no_photos: why there are none.
    """

    run: str
    rows: Sequence[Row]
    manifests: Mapping[str, Manifest]
    history: Sequence[Mapping[str, Any]] = ()
    robustness: Sequence[Mapping[str, str]] = ()
    flicker: Sequence[Mapping[str, str]] = ()
    exhibits: Sequence[Exhibit] = field(default_factory=tuple)
    no_photos: str = ""


_SHOWN = (
    "File",
    "Recipe",
    "Split",
    "IoU %",
    "95 %",
    "p10 %",
    "Boundary IoU %",
    "Ratio",
    "p50 ms",
    "Threads",
    "MB",
    "Note",
)

#: Those first; the others on demand.
_COLUMNS = (*(COLUMNS[name] for name in _SHOWN), *(column for name, column in COLUMNS.items() if name not in _SHOWN))


def build(content: Content) -> str:
    """The page as text; everything that is not ours is escaped."""
    style, script = (Markup((_STATIC / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    sections = [
        ("results", "Results", _results(content)),
        ("plots", "Accuracy against cost", _plots(content.rows)),
        ("robustness", "Robustness", _robustness(content.robustness)),
        ("flicker", "Flicker", _flicker(content.flicker)),
        ("photos", "Worst photos", _photos(content)),
        ("checks", "Parity and GPU", _checks(content.manifests)),
        ("origin", "Weights, data, tools", _origins(content.manifests)),
        ("history", "History", _history(content.history)),
    ]
    present = [(key, title, body) for key, title, body in sections if body]
    head = join(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # nothing is ever loaded, and no script runs but this one: a name that slipped through could do no harm
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("title", f"Benchmark of {content.run}"),
        element("style", style),
    )
    body = join(
        element("h1", f"Benchmark of {content.run}"),
        element("nav", *(element("a", title, href=f"#{key}") for key, title, _ in present)),
        _conditions(content.history),
        *(element("section", element("h2", title), part, id=key) for key, title, part in present),
        element("script", script),
    )
    page = join(element("head", head), element("body", body))
    return f"<!doctype html>\n{element('html', page, lang='en')}\n"


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _conditions(history: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not history:
        return None
    latest = history[-1]
    lines = [f"measured {latest.get('time', '')}, commit {latest.get('git_commit', '')}"]
    lines += [f"{name} {version}" for name, version in dict(latest.get("tools", {})).items()]
    hosts = [record for record in history if record.get("kind", "host") == "host"]
    lines = [*(hosts[-1].get("conditions", []) if hosts else []), f"{lines[0]}; {', '.join(lines[1:])}"]
    return element("ul", *(element("li", str(line)) for line in lines), class_="conditions")


def _results(content: Content) -> Markup:
    splits = list(dict.fromkeys(row.split for row in content.rows if row.split))
    options = [element("option", "all splits", value=""), *(element("option", name, value=name) for name in splits)]
    form = element(
        "form",
        element("input", type="search", name="words", placeholder="filter, such as: tflite qat", aria_label="filter"),
        element("select", *options, name="split", aria_label="split"),
        element("label", element("input", type="checkbox", name="valid"), " only rows whose figures all count"),
        element("label", element("input", type="checkbox", name="further"), " all columns"),
        element("span", "", id="shown", class_="note"),
        id="filters",
        class_="filters",
    )
    rows = [_result_row(row) for row in content.rows]
    head = [_head(column.name, column.form is not None, column.name not in _SHOWN) for column in _COLUMNS]
    return join(_highlights(content.rows), form, _table(head, rows, id="rows"))


def _highlights(rows: Sequence[Row]) -> Markup | None:
    """The best of each split in a few words; ours and those of others alike."""
    cards: list[Markup] = []
    for split in dict.fromkeys(row.split for row in rows if row.split):
        good = [row for row in rows if row.split == split and row.quality_valid and row.iou is not None]
        for name, score in (("IoU", "iou"), ("boundary IoU", "boundary_iou")):
            scored = [(getattr(row, score), row.name) for row in good if getattr(row, score) is not None]
            if scored:
                value, file = max(scored, key=itemgetter(0))
                cards.append(_card(f"{100 * value:.2f} %", f"highest {name} on {split}", file))
    timed = [row for row in rows if row.latency_valid and row.threads == 1 and row.ratio_to_reference is not None]
    if timed:
        best = min(timed, key=lambda row: row.ratio_to_reference or 0.0)
        what = f"lowest latency, against {best.reference} on 1 thread"
        cards.append(_card(f"× {best.ratio_to_reference:.2f}", what, best.name))
    return element("div", *cards, class_="cards") if cards else None


def _card(figure: str, what: str, file: str) -> Markup:
    return element("div", element("b", figure), element("span", what), element("span", file, class_="file"))


def _result_row(row: Row) -> Markup:
    cells = []
    for column in _COLUMNS:
        value, shown = column.of(row), column.text(row)
        further = "" if column.name in _SHOWN else " further"
        if column.form is None:
            kind = "name" if column.name in ("File", "Note") else ""
            cells.append(element("td", shown, class_=f"{kind}{further}".strip() or None))
            continue
        counts = row.latency_valid if column.is_latency else row.quality_valid or row.latency_valid
        kind = "number" if counts else "number off"
        cells.append(element("td", shown, class_=f"{kind}{further}", data_value="" if value is None else value))
    return element("tr", *cells, data_split=row.split or "", data_valid="true" if row.valid else "false")


def _plots(rows: Sequence[Row]) -> Markup | None:
    plots: list[Markup] = []
    kinds = list(dict.fromkeys(_kind(row) for row in rows))
    for split in dict.fromkeys(row.split for row in rows if row.split):
        good = {
            row.name: row for row in reversed(rows) if row.split == split and row.quality_valid and row.iou is not None
        }
        # the rows of a phone have no split: their files were scored on the host
        timed = [row for row in rows if row.split in (split, None) and row.latency_valid and row.name in good]
        groups: dict[str, list[tuple[Row, float]]] = {}
        for row in timed:
            if row.ratio_to_reference is not None:
                groups.setdefault(_where_measured(row), []).append((row, row.ratio_to_reference))
        for where, pairs in groups.items():
            points = [_point(good[row.name], ratio) for row, ratio in pairs]
            title = f"{split}: IoU against latency, {where}"
            plots.append(_figure(points, title, f"p50 latency / that of {pairs[0][0].reference}", kinds))
        sized = [(row, row.bytes / 1e6) for row in reversed(good.values()) if row.bytes is not None]
        if sized:
            plots.append(_figure([_point(*pair) for pair in sized], f"{split}: IoU against size", "MB", kinds))
    return element("div", *plots, class_="plots") if plots else None


def _figure(points: Sequence[Point], title: str, cost_name: str, kinds: Sequence[str]) -> Markup:
    names = ", ".join(f"{point.label} ({point.cost:.3g}, {point.score:.2f})" for point in frontier(points))
    plot = scatter(points, title, cost_name, "IoU %", kinds).to_svg(title)
    return element("figure", plot, element("p", f"On the frontier: {names}", class_="note"))


def _where_measured(row: Row) -> str:
    """Latencies belong into one plot if they were measured in one place."""
    threads = "" if row.threads is None else f"{row.threads} thread{'s' * (row.threads != 1)}, "
    # runtimes and delegates of one machine compare, those of a phone are its CPU, GPU and NPU
    delegate = f"{row.delegate}, " if row.split is None else ""
    return f"{delegate}{threads}{row.machine}"


def _point(row: Row, cost: float) -> Point:
    assert row.iou is not None
    return Point(cost, 100 * row.iou, row.name, _kind(row))


def _kind(row: Row) -> str:
    return f"{row.model} {row.name.rpartition('.')[2]}"


def _robustness(lines: Sequence[Mapping[str, str]]) -> Markup | None:
    if not lines:
        return None
    conditions = list(dict.fromkeys(line["condition"] for line in lines))
    by_file: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    for line in lines:
        by_file.setdefault((line["file"], line["split"]), {})[line["condition"]] = line
    rows = []
    for (file, split), by_condition in by_file.items():
        cells = [element("td", Path(file).name, class_="name"), element("td", split)]
        for condition in conditions:
            scored = by_condition.get(condition)
            value = "" if scored is None or scored["valid"] != "true" else f"{100 * float(scored['iou']):.2f}"
            cells.append(element("td", value, class_="number", data_value=value))
        rows.append(element("tr", *cells))
    head = [_head("File"), _head("Split"), *(_head(f"IoU % {condition}", True) for condition in conditions)]
    return _table(head, rows)


def _flicker(lines: Sequence[Mapping[str, str]]) -> Markup | None:
    if not lines:
        return None
    rows = []
    for line in lines:
        texts = [element("td", Path(line["file"]).name, class_="name"), element("td", line["split"])]
        numbers = (float(line["dtssd"]), 100 * float(line["flipped_share"]))
        cells = [element("td", f"{value:.3f}", class_="number", data_value=value) for value in numbers]
        rows.append(element("tr", *texts, *cells))
    head = [_head("File"), _head("Split"), _head("dtSSD", True), _head("Flipped pixels %", True)]
    note = element("p", "Clips of a shaking camera made from still photos; 0 is steady.", class_="note")
    return join(note, _table(head, rows))


def _photos(content: Content) -> Markup:
    if not content.exhibits:
        return element("p", content.no_photos or "No photos were asked for.", class_="note")
    note = "Lowest mean IoU first. Difference: blue is missing, orange is too much. Keep this page to yourself."
    words = {"placeholder": "only these files, such as: tflite fp16", "aria_label": "filter of photos"}
    parts: list[Markup] = [
        element("p", note, class_="note"),
        element("form", element("input", type="search", name="words", **words), id="photo_filter", class_="filters"),
    ]
    split = ""
    for exhibit in content.exhibits:
        if exhibit.split != split:
            split = exhibit.split
            parts.append(element("h3", split))
        parts.append(_exhibit(exhibit))
    return join(*parts)


def _exhibit(exhibit: Exhibit) -> Markup:
    first = (_picture("input", exhibit.image), _picture("truth", exhibit.truth), element("figcaption", "input, truth"))
    figures = [element("figure", *first, class_="own")]
    for answer in exhibit.answers:
        caption = answer.file if answer.iou is None else join(element("b", f"{100 * answer.iou:.1f}"), " ", answer.file)
        pictures = (_picture(answer.file, answer.difference), _picture(answer.file, answer.mask))
        figures.append(element("figure", *pictures, element("figcaption", caption), data_file=answer.file))
    title = f"{exhibit.key}, mean IoU {100 * exhibit.mean_iou:.1f}"
    return element("div", element("p", title), element("div", *figures, class_="row"), class_="exhibit")


def _picture(name: str, source: str) -> Markup:
    return element("img", src=source, alt=name, loading="lazy")


def _checks(manifests: Mapping[str, Manifest]) -> Markup | None:
    rows = [_check_row(folder, entry) for folder, manifest in manifests.items() for entry in manifest.files]
    names = ("File", "Folder", "Parity", "GPU", "Bytes", "SHA-256")
    return _table([_head(name, name == "Bytes") for name in names], rows) if rows else None


def _check_row(folder: str, entry: FileEntry) -> Markup:
    gpu: list[str] = [_gpu(check) for check in entry.gpu] or [element("span", "not_run", class_="not_run")]
    separated = [part for check in gpu for part in (check, Markup("<br>"))][:-1]
    return element(
        "tr",
        element("td", entry.path, class_="name"),
        element("td", folder),
        element("td", _parity(entry.parity)),
        element("td", *separated),
        element("td", str(entry.bytes), class_="number", data_value=entry.bytes),
        element("td", entry.sha256, class_="code"),
    )


def _parity(parity: Parity) -> Markup:
    verdict = "not_run" if parity.passed is None else "passed" if parity.passed else "failed"
    facts = [parity.not_run] if parity.not_run else []
    for name in ("max_abs", "mask_iou", "bound"):
        value = getattr(parity, name)
        facts += [] if value is None else [f"{name} {value:.4g}"]
    return join(element("span", verdict, class_=verdict), f" {', '.join(facts)}")


def _gpu(check: GpuCheck) -> Markup:
    nodes = "" if check.nodes is None else f", {check.delegated} of {check.nodes} nodes"
    reason = f", {check.reason}" if check.reason else ""
    return join(element("span", check.verdict, class_=check.verdict), f" {check.route}{nodes}{reason}")


def _origins(manifests: Mapping[str, Manifest]) -> Markup | None:
    rows = []
    for folder, manifest in manifests.items():
        source = manifest.source
        data = "; ".join(f"{d.set}/{d.split} {d.sha256_16} ({d.licence})" for d in source.data)
        tools = ", ".join(f"{name} {version}" for name, version in source.tools.items())
        hashes = f"weights {source.weights_sha256}, config {source.config_sha256}, commit {source.git_commit}"
        cells = (folder, source.model, str(source.seed), data, tools)
        rows.append(element("tr", *(element("td", cell) for cell in cells), element("td", hashes, class_="code")))
    names = ("Folder", "Model", "Seed", "Data", "Tools", "Hashes")
    return _table([_head(name) for name in names], rows) if rows else None


def _history(history: Sequence[Mapping[str, Any]]) -> Markup | None:
    rows = []
    for record in reversed(history[-50:]):
        good = [row for row in record["rows"] if row.get("quality_valid") and row.get("split")]
        best = max(good, key=lambda row: row.get("iou", 0.0), default=None)
        shown = "" if best is None else f"{Path(best['file']).name}, {best['split']}: {100 * best['iou']:.2f}"
        keys = ("time", "kind", "profile", "machine", "load_1_min", "git_commit")
        cells = [str(record.get(key, "")) for key in keys] + [str(len(record["rows"])), shown]
        rows.append(element("tr", *(element("td", cell) for cell in cells)))
    names = ("Time", "Kind", "Profile", "Machine", "Load", "Commit", "Rows", "Highest IoU %")
    return _table([_head(name, name in ("Load", "Rows")) for name in names], rows) if rows else None


def _head(name: str, is_number: bool = False, is_further: bool = False) -> Markup:
    kind = " ".join(["number"] * is_number + ["further"] * is_further) or None
    return element("th", element("button", name, type="button"), class_=kind, scope="col")


def _table(head: Sequence[Markup], rows: Sequence[Markup], **attributes: str) -> Markup:
    parts = (element("thead", element("tr", *head)), element("tbody", *rows))
    return element("div", element("table", *parts, class_="sortable", **attributes), class_="scroll")
