"""README's tables are what the committed results give; and how they are made."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.studies import readme
from benchmark.tables import views
from benchmark.tables.results import Results, Row
from portraitseg.errors import CheckFailed, InputError

ROOT = Path(__file__).parents[2]

table = views.FILES.to_markdown


def row(name: str = "net-24x30-rgb-fp32.tflite", split: str | None = "test_a", threads: int = 1, **values) -> Row:
    given = {
        "model": "net",
        "channels": "rgb",
        "recipe": "fp32",
        "runtime": "rt 1",
        "delegate": "xnnpack",
        "threads": threads,
        "split": split,
        "split_sha256_16": "ab" * 8,
        "photos": 4,
        "iou": 0.9,
        "iou_low": 0.88,
        "iou_high": 0.92,
        "boundary_iou": 0.7,
        "p50_ms": 2.0,
        "ratio_to_reference": 0.5,
        "bytes": 1_500_000,
        "quality_valid": True,
        "latency_valid": True,
        "reference": "ref.tflite",
        "machine": "a machine",
    }
    return Row(file=f"somewhere/{name}", **(given | values))


def test_tables_of_the_documents_are_those_of_the_committed_results():
    tables: dict[str, str] = {}
    for path in (ROOT / readme.RESULTS).glob("*.csv"):
        tables |= readme.tables_of(path) if readme.is_table(path) else {}
    shown = [
        item
        for document in readme.DOCUMENTS
        for item in (readme.blocks((ROOT / document).read_text()).items() if (ROOT / document).exists() else ())
    ]
    for name, content in shown:
        assert name in tables, f"{name} is shown, of which no results are committed"
        assert content == tables[name], "run `python -m benchmark readme`"
    missing = {name for name in tables if not name.endswith(readme.SHORT)} - {name for name, _ in shown}
    assert not missing, f"committed, and in no document: {missing}"
    # whoever gives it two minutes sees what apps take, and no more
    assert all(name.endswith(readme.SHORT) for name in readme.blocks((ROOT / "README.md").read_text()))


def test_the_short_table_has_what_apps_take():
    names = ["a-24x30-rgb-qat_wi8_ai8.tflite", "a-24x30-fp16-multiarray.mlpackage", "a-24x30-fp16.mlpackage"]
    rows = [row(names[0], recipe="qat_wi8_ai8"), row(names[1], recipe="fp16"), row(names[2], recipe="fp16")]
    rows += [row(), row("a-24x30-rgba-fp16.tflite", recipe="fp16", channels="rgba"), row("b.tflite", recipe="foreign")]
    kept = [each for each in rows if readme._is_short(each)]
    assert [Path(each.file).name for each in kept] == [names[0], names[2], "b.tflite"]


def test_one_row_a_file_with_the_splits_side_by_side():
    rows = [
        row(split="test_a"),
        row(split="test_b", iou=0.8, iou_low=0.75, iou_high=0.85),
        row(split="test_a", threads=2, ratio_to_reference=0.25),
        row("ref.tflite", split="test_a", ratio_to_reference=1.0, p50_ms=4.0),
        row("net-24x30-fp16-multiarray.mlpackage", recipe="fp16", latency_valid=False, threads=None, p50_ms=None),
    ]
    text = table(rows)
    header, _, *lines = text.split("\n\n")[0].splitlines()
    assert header == (
        "| Model | Format | Recipe | Channels | MB | IoU test_a | boundary IoU test_a | IoU test_b |"
        " boundary IoU test_b | × reference, 1 thread | × reference, 2 threads |"
    )
    assert lines == [
        "| net 24×30 | tflite | fp32 | rgb | 1.50 | 90.00 (88.0–92.0) | 70.00 |"
        " 80.00 (75.0–85.0) | 70.00 | 0.50 | 0.25 |",
        "| net | tflite | fp32 | rgb | 1.50 | 90.00 (88.0–92.0) | 70.00 |  |  | 1.00 |  |",
        "| net 24×30 | mlpackage multiarray | fp16 | rgb | 1.50 | 90.00 (88.0–92.0) | 70.00 |  |  |  |  |",
    ]
    assert "ratio to ref.tflite (p50 4.00 ms), 1 thread, on a machine" in text and "list abababababababab" in text


def test_figures_that_do_not_count_are_left_out():
    noisy = row(valid=False, latency_valid=False, reason="latency too noisy")
    assert "90.00" in table([noisy]) and "× reference" not in table([noisy])
    no_probability = row(valid=False, quality_valid=False, reason="output is no probability")
    assert "90.00" not in table([no_probability]) and "0.50" in table([no_probability])
    assert "| net" in table([Row(file="a.mlpackage", model="net", valid=False, reason="not_run: needs macOS")])


def test_command_writes_checks_and_prints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Results([row()]).write(Path("a.csv"))
    Path("README.md").write_text("before\n<!-- results:begin a -->\n<!-- results:end a -->\nafter\n")

    def command(*arguments: str):
        return CliRunner().invoke(app, ["readme", "--results", "a.csv", *arguments], catch_exceptions=False)

    with pytest.raises(CheckFailed, match="'a' is not what"):
        command("--check")
    assert command().exit_code == 0
    text = Path("README.md").read_text()
    assert text.startswith("before\n<!-- results:begin a -->\n| Model") and text.endswith("results:end a -->\nafter\n")
    assert command("--check").exit_code == 0
    assert command().exit_code == 0 and Path("README.md").read_text() == text
    Path("README.md").write_text(text.replace("90.00", "95.00"))
    with pytest.raises(CheckFailed):
        command("--check")
    # no place for it yet: shown, to be pasted
    Path("README.md").write_text("nothing\n")
    shown = command()
    assert "<!-- results:begin a -->" in shown.stdout and Path("README.md").read_text() == "nothing\n"


def test_scores_by_photo_beside_a_table_are_no_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme.RESULTS.mkdir(parents=True)
    Results([row()]).write(readme.RESULTS / "a.csv")
    (readme.RESULTS / "a-photos.csv").write_text("file,split,key,iou\n")
    Path("README.md").write_text("<!-- results:begin a -->\n<!-- results:end a -->\n")
    assert CliRunner().invoke(app, ["readme"], catch_exceptions=False).exit_code == 0
    assert "90.00" in Path("README.md").read_text()


def test_a_table_without_results(tmp_path):
    document = tmp_path / "README.md"
    document.write_text("<!-- results:begin gone -->\n<!-- results:end gone -->\n")
    with pytest.raises(CheckFailed, match="'gone' has no"):
        readme.update(document, [], is_check=True)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- results:begin a -->\n",
        "<!-- results:begin a -->\n<!-- results:end b -->\n",
        "<!-- results:end a -->\n",
        2 * "<!-- results:begin a -->\n<!-- results:end a -->\n",
    ],
)
def test_markers_that_do_not_pair(text):
    with pytest.raises(InputError, match="results:begin"):
        readme.blocks(text)


@pytest.mark.parametrize(
    "content", ["", "file,model\n", "a,b\n1,2\n", "file,model,valid,reason\n1,2\n", "\0\n", "\xff"]
)
def test_files_that_are_no_results(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.csv"):
        readme.tables_of(path)


def test_a_hostile_name_stays_inside_its_cell():
    text = table([row(model="a | b --> c", reference="x\n--> y")])
    assert r"a \| b" in text and "-->" not in text
