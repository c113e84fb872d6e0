"""The report names what is odd, worst first, and its page needs nothing from elsewhere."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.synthetic import portraits as synthetic
from train.data_report import JSON_NAME, PAGE_NAME, describe, write_report

PHOTOS = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "DATA"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(PHOTOS):
        image, alpha = synthetic.render(number, (96, 72), 1)
        Image.fromarray(image).save(root / f"images/p{number}.png")
        Image.fromarray(alpha).save(root / f"masks/p{number}.png")
    lists = {"train": [f"p{n}" for n in range(7)], "val": ["p7", "p8"], "test": ["p9"]}
    (root / "splits.json").write_text(json.dumps({"splits": lists}))
    return root


def reported(folder: Path, out: Path) -> tuple[dict[str, Any], str]:
    write_report(open_dataset(DataConfig(format="folder", root=folder), 0), "val", out)
    return json.loads((out / JSON_NAME).read_text()), (out / PAGE_NAME).read_text()


def test_planted_faults_come_first(folder: Path, tmp_path: Path) -> None:
    # p7 of val is p1 of train, mirrored; p2 is no photo any more; p3 has an empty mask; p4 is dark and p5 grey
    Image.fromarray(np.ascontiguousarray(np.asarray(Image.open(folder / "images/p1.png"))[:, ::-1])).save(
        folder / "images/p7.png"
    )
    (folder / "images/p2.png").write_bytes(b"")
    Image.new("L", (72, 96)).save(folder / "masks/p3.png")
    Image.fromarray(np.asarray(Image.open(folder / "images/p4.png")) // 12).save(folder / "images/p4.png")
    Image.open(folder / "images/p5.png").convert("L").save(folder / "images/p5.png")
    report, page = reported(folder, tmp_path / "report")
    order = [photo["key"] for photo in report["photos"]]
    assert order[0] == "p2" and set(order[1:3]) == {"p1", "p7"} and order[3] == "p3" and order[4] == "p4"
    assert len(order) == PHOTOS
    assert report["near_duplicates"][0]["photos"] == ["p1", "p7"]
    by_key = {photo["key"]: photo for photo in report["photos"]}
    assert "the file is empty" in by_key["p2"]["error"]
    assert "nearly the same as p7 in val" in by_key["p1"]["notes"][-1]
    assert "mask: all black" in by_key["p3"]["notes"] and by_key["p3"]["person"] == 0
    assert (
        report["notes"]["photo: very dark"]
        == report["notes"]["photo: grayscale"]
        == report["notes"]["cannot be used"]
        == 1
    )
    assert report["splits"]["val"]["photos"] == 2
    assert page.index("<b>p2</b>") < page.index("<b>p3</b>") < page.index("<b>p4</b>")


def test_the_page_is_self_contained(folder: Path, tmp_path: Path) -> None:
    name = "<script>alert(1)</script>&x"
    for kind in ("images", "masks"):
        (folder / kind / "p0.png").rename(folder / kind / (name.replace("/", "_") + ".png"))
    Image.new("L", (72, 96)).save(folder / "masks" / (name.replace("/", "_") + ".png"))
    (folder / "splits.json").unlink()
    _, page = reported(folder, tmp_path / "report")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=.(?!data:)", page)
    assert "data:image/jpeg;base64," in page


def test_a_good_photo_is_nothing_to_look_at(folder: Path) -> None:
    data = open_dataset(DataConfig(format="folder", root=folder), 0)
    seen = describe(data.load("p0"))
    assert seen.notes == () and seen.severity == 0
    assert seen.size == (96, 72) and seen.person is not None and 0.05 < seen.person < 0.8


def test_a_burst_is_listed_in_short_and_is_no_worse_than_a_broken_file(folder: Path, tmp_path: Path) -> None:
    for number in range(7):
        for kind in ("images", "masks"):
            (folder / kind / f"p{number}.png").write_bytes((folder / kind / "p0.png").read_bytes())
    (folder / "images/p8.png").write_bytes(b"")
    report, page = reported(folder, tmp_path / "report")
    assert report["pairs_of_near_duplicates"] == len(report["near_duplicates"]) == 7 * 6 // 2
    assert [photo["key"] for photo in report["photos"][:8]] == ["p8", *(f"p{number}" for number in range(7))]
    first = report["photos"][1]
    assert first["twins"] == 6 and len(first["notes"]) == 5 and report["notes"]["nearly the same as another"] == 7
    assert "8 photos. Each beside itself" in page
