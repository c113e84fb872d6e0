"""What annotation tools export, in their real layouts, of drawn persons: read right, or refused in one line."""

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
import pytest
from PIL import Image

from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.data.base import Dataset
from portraitseg.data.coco import objects
from portraitseg.data.shapes import ShapesDataset
from portraitseg.errors import InputError
from tests.data import drawn

#: A polygon's edge goes through pixels that a mask has or has not: the outline may differ by one pixel.
EDGE_PX = 1


def opened(root: Path, name: str, **more: Any) -> Dataset:
    return open_dataset(DataConfig.model_validate({"format": name, "root": root, **more}), 0)


def png(mask: np.ndarray, mode: str = "1") -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(mask)
    if mode == "RGBA":
        image = Image.fromarray(np.dstack([np.full((*mask.shape, 3), 255, np.uint8), 255 * mask.astype(np.uint8)]))
    image.save(stream, "PNG")
    return stream.getvalue()


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Head and shoulders may be apart: a polygon each."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour[:, 0] for contour in contours]


def put_photo(path: Path, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn.photo(index)).save(path, quality=95)


def close(mask: np.ndarray | None, person: np.ndarray, edge_px: int = 0) -> None:
    assert mask is not None
    differs = (mask > 127) != person
    if edge_px:
        kernel = np.ones((2 * edge_px + 1,) * 2, np.uint8)
        # the photo's own edge is an edge as well: COCO's polygons end before their last row
        inner = cv2.erode(person.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        grown = cv2.dilate(person.astype(np.uint8), kernel)
        differs &= inner == grown
    assert not differs.any()


# --- Supervisely


def supervisely(root: Path, datasets: tuple[str, ...] = ("ds1", "ds2")) -> Path:
    root.mkdir(exist_ok=True)
    (root / "meta.json").write_text(
        json.dumps(
            {"classes": [{"title": t, "shape": "bitmap"} for t in ("person_bmp", "person_poly", "neutral", "dog")]}
        )
    )
    for dataset in datasets:
        for index in range(3):
            put_photo(root / dataset / "img" / f"{index:05d}.jpg", index)
            (root / dataset / "ann").mkdir(exist_ok=True)
            (root / dataset / "ann" / f"{index:05d}.jpg.json").write_text(json.dumps(supervisely_file(index)))
    return root


def supervisely_file(index: int) -> dict[str, Any]:
    """Number 0 is a bitmap, 1 a polygon with a hole, 2 an export of 2018 with a neutral corner and a dog."""
    person = drawn.person(index)
    size = {"height": person.shape[0], "width": person.shape[1]}
    rows, columns = np.nonzero(person)
    top, left = int(rows.min()), int(columns.min())
    cut = person[top:, left : columns.max() + 1]
    bitmap = {"data": base64.b64encode(zlib.compress(png(cut))).decode(), "origin": [left, top]}
    if index == 1:
        hole = [[40, 80], [50, 80], [50, 90], [40, 90]]
        polygons = [
            {"exterior": points.tolist(), "interior": [hole] if 95 in points else []} for points in outlines(person)
        ]
        of_kind = {"classTitle": "person_poly", "geometryType": "polygon"}
        return {"size": size, "objects": [{**of_kind, "points": points} for points in polygons]}
    if index == 0:
        return {"size": size, "objects": [{"classTitle": "person_bmp", "geometryType": "bitmap", "bitmap": bitmap}]}
    empty = {"exterior": [], "interior": []}
    corner = {"exterior": [[0, 0], [9, 0], [9, 9], [0, 9]], "interior": []}
    bitmap["data"] = base64.b64encode(zlib.compress(png(cut, "RGBA"))).decode()
    return {
        "size": size,
        "objects": [
            {"classTitle": "dog", "bitmap": None, "points": {"exterior": [[0, 50], [9, 50], [9, 60]], "interior": []}},
            {"classTitle": "person_bmp", "bitmap": bitmap, "points": empty},
            {"classTitle": "neutral", "bitmap": None, "points": corner},
            {"classTitle": "dog", "geometryType": "point", "points": {"exterior": [[1, 1]], "interior": []}},
        ],
    }


def test_supervisely(tmp_path: Path) -> None:
    data = opened(supervisely(tmp_path), "supervisely", val_ratio=0.4)
    assert sorted(key for keys in data.splits.values() for key in keys) == [
        f"ds{d}/0000{i}" for d in (1, 2) for i in range(3)
    ]
    close(data.load("ds1/00000").mask, drawn.person(0))
    sample = data.load("ds2/00001")
    holed = drawn.person(1).copy()
    holed[80:91, 40:51] = False
    close(sample.mask, holed, EDGE_PX)
    assert sample.mask is not None and not sample.mask[82:89, 42:49].any() and sample.mask[70:75, 42:49].all()
    sample = data.load("ds1/00002")
    close(sample.mask, drawn.person(2))
    assert sample.ignore is not None and sample.ignore.sum() == 100 and sample.ignore[:10, :10].all()
    assert "mask: a shape without an area is left out (point)" in sample.notes
    assert data.has_ignored and "neutral is ignored" in data.remarks[-1]
    assert not opened(tmp_path, "supervisely", ignore_labels=["dog"]).load("ds1/00002").ignore[:10, :10].any()  # type: ignore[index]


def test_supervisely_splits_by_its_datasets(tmp_path: Path) -> None:
    data = opened(supervisely(tmp_path, ("train", "val", "test")), "supervisely")
    assert {name: len(keys) for name, keys in data.splits.items()} == {"test": 3, "train": 3, "val": 3}


def test_supervisely_of_2018_names_its_files_by_stem(tmp_path: Path) -> None:
    supervisely(tmp_path, ("ds1",))
    for path in (tmp_path / "ds1/ann").iterdir():
        path.rename(path.with_name(path.name.replace(".jpg.json", ".json")))
    close(opened(tmp_path, "supervisely").load("ds1/00000").mask, drawn.person(0))


# --- COCO


def coco_file(indices: range, first: int = 1) -> dict[str, Any]:
    """Of each photo: polygons, compressed or uncompressed runs, in turn; a crowd beside it, and a dog."""
    from pycocotools import mask as coco

    height, width = drawn.SIZE
    images, instances = [], []
    for number, index in enumerate(indices):
        person = drawn.person(index)
        images.append({"id": first + number, "file_name": f"{index:012d}.jpg", "height": height, "width": width})
        runs = coco.encode(np.asfortranarray(person.astype(np.uint8)))
        flat = person.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff([0, *edges, flat.size]).tolist()
        counts = counts if not flat[0] else [0, *counts]
        segmentation = [
            [points.ravel().tolist() for points in outlines(person)],
            {"size": [height, width], "counts": runs["counts"].decode()},
            {"size": [height, width], "counts": counts},
        ][index % 3]
        base = {"image_id": first + number, "area": 1.0, "bbox": [0, 0, 1, 1]}
        crowd = np.zeros(drawn.SIZE, np.uint8)
        crowd[:20, :30] = 1
        crowded = coco.encode(np.asfortranarray(crowd))["counts"].decode()
        instances += [
            {**base, "id": 3 * index, "category_id": 1, "iscrowd": 0, "segmentation": segmentation},
            {**base, "id": 3 * index + 1, "category_id": 18, "iscrowd": 0, "segmentation": [[0, 60, 9, 60, 9, 70]]},
            {
                **base,
                "id": 3 * index + 2,
                "category_id": 1,
                "iscrowd": 1,
                "segmentation": {"size": [height, width], "counts": crowded},
            },
        ]
    images.append({"id": 999_999, "file_name": "nobody.jpg", "height": height, "width": width})
    categories = [
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 18, "name": "chien é", "supercategory": "animal"},
    ]
    # in COCO's own order: what a category is called comes last
    return {
        "info": {"year": 2017, "note": "é" * 40},
        "licenses": [{"id": 1}],
        "images": images,
        "annotations": instances,
        "categories": categories,
    }


def coco(root: Path, name: str = "train2017", folder: str = "train2017", indices: range = range(6)) -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(coco_file(indices), ensure_ascii=False))
    for index in indices:
        put_photo(root / folder / f"{index:012d}.jpg", index)
    return root


def test_coco(tmp_path: Path) -> None:
    coco(tmp_path)
    coco(tmp_path, "val2017", "val2017", range(6, 9))
    data = opened(tmp_path, "coco")
    assert len(data.splits["train"]) == 6 and data.splits["val"] == tuple(f"val2017/{i:012d}" for i in range(6, 9))
    for index in range(9):
        sample = data.load(f"{'train' if index < 6 else 'val'}2017/{index:012d}")
        person = drawn.person(index)
        close(sample.mask, person, EDGE_PX if index % 3 == 0 else 0)
        assert (
            sample.ignore is not None
            and (sample.ignore == (np.indices(drawn.SIZE) < [[[20]], [[30]]]).all(axis=0) & (sample.mask == 0)).all()
        )
    assert "crowds are ignored" in data.remarks[1] and "2 of 11 photos have nobody" in data.remarks[2]
    part = data.excerpt(data.splits["val"][:1])
    close(part.load("val2017/000000000006").mask, drawn.person(6), EDGE_PX)


def test_coco_of_other_tools(tmp_path: Path) -> None:
    data = opened(coco(tmp_path / "cvat", "default", "images"), "coco")
    close(data.load("default/000000000001").mask, drawn.person(1))
    for split in ("train", "valid"):
        coco(tmp_path / "roboflow", split, split)
        (tmp_path / f"roboflow/annotations/instances_{split}.json").rename(
            tmp_path / f"roboflow/{split}/_annotations.coco.json"
        )
    data = opened(tmp_path / "roboflow", "coco")
    assert {name: len(keys) for name, keys in data.splits.items()} == {"train": 6, "val": 6}


def test_coco_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that lie across pieces, one byte after the other, are what the whole file has."""
    value = coco_file(range(3))
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(value, ensure_ascii=False, indent=1).encode())
    content = path.read_bytes()
    for size in (1, 7, 4096):
        monkeypatch.setattr("portraitseg.data.coco._CHUNK_BYTES", size)
        listed = list(objects(path))
        for name in ("images", "annotations", "categories"):
            assert [item for kind, item, _, _ in listed if kind == name] == value[name]
        assert all(json.loads(content[start : start + length]) == item for _, item, start, length in listed)


# --- CVAT


def cvat(root: Path, subset: str = "") -> Path:
    root.mkdir(exist_ok=True)
    images = []
    for index in range(4):
        name = f"p é{index}.jpg"
        put_photo(root / "images" / subset / name, index)
        person, (height, width) = drawn.person(index), drawn.SIZE
        text = cvat_shape(index, person)
        of_subset = f' subset="{subset}"' if subset else ""
        images.append(
            f'<image id="{index}" name={quoteattr(name)}{of_subset} width="{width}" height="{height}">{text}</image>'
        )
    images.append(f'<image id="9" name="empty.jpg" width="{drawn.SIZE[1]}" height="{drawn.SIZE[0]}"/>')
    Image.fromarray(drawn.photo(9)).save(root / "images" / "empty.jpg")
    body = "\n  ".join(images)
    meta = "<meta><task><name>t</name><labels><label><name>person</name></label></labels></task></meta>"
    (root / "annotations.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}\n  {body}\n</annotations>\n'
    )
    return root


def cvat_shape(index: int, person: np.ndarray) -> str:
    """A polygon, a mask, a turned box over an ignored one, an ellipse."""
    polygons = [";".join(f"{x:.2f},{y:.2f}" for x, y in points) for points in outlines(person)]
    attribute = '<attribute name="a">b</attribute>'
    rows, columns = np.nonzero(person)
    cut = person[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    flat = cut.ravel()
    runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
    runs = [0, *runs] if flat[0] else runs
    mask = (
        f'<mask label="person" source="manual" occluded="0" rle="{", ".join(map(str, runs))}" left="{columns.min()}" '
        f'top="{rows.min()}" width="{cut.shape[1]}" height="{cut.shape[0]}" z_order="0"/>'
    )
    return [
        "".join(f'<polygon label="person" points="{text}" z_order="0">{attribute}</polygon>' for text in polygons),
        mask,
        '<box label="person" xtl="20" ytl="40" xbr="50" ybr="60" rotation="90" z_order="2"/>'
        '<box label="blurred" xtl="0" ytl="30" xbr="71" ybr="70" z_order="1"/><tag label="indoor"/>'
        '<points label="person" points="3,3" z_order="0"/>',
        '<ellipse label="person" cx="36" cy="50" rx="20" ry="30" z_order="0"/>',
    ][index]


def test_cvat(tmp_path: Path) -> None:
    data = opened(cvat(tmp_path), "cvat", ignore_labels=["Blurred"])
    close(data.load("p é0").mask, drawn.person(0), EDGE_PX)
    close(data.load("p é1").mask, drawn.person(1))
    turned = data.load("p é2")
    box = np.zeros(drawn.SIZE, bool)
    box[35:66, 25:46] = True
    close(turned.mask, box, EDGE_PX)
    assert turned.ignore is not None and turned.ignore[31, 5] and not turned.ignore[50, 30] and not turned.ignore[5, 5]
    assert "mask: a shape without an area is left out (points)" in turned.notes
    oval = np.zeros(drawn.SIZE, np.uint8)
    cv2.ellipse(oval, (36, 50), (20, 30), 0, 0, 360, 1, -1)
    close(data.load("p é3").mask, oval > 0, EDGE_PX)
    assert "mask: all black" in data.load("empty").notes
    assert "labels blurred, person: person is person, blurred is ignored" in data.remarks[-1]
    close(data.excerpt(["p é1"]).load("p é1").mask, drawn.person(1))


def test_cvat_subsets_are_splits(tmp_path: Path) -> None:
    cvat(tmp_path, subset="Train")
    text = (tmp_path / "annotations.xml").read_text()
    (tmp_path / "annotations.xml").write_text("\n".join(line for line in text.split("\n") if "empty.jpg" not in line))
    data = opened(tmp_path, "cvat", val_ratio=0.3)
    assert set(data.splits) == {"train", "val"} and len(data.splits["train"]) + len(data.splits["val"]) == 4


# --- LabelMe


def labelme(
    root: Path, image_path: Callable[[str], str] = lambda name: name, photos: str = "", folder: str = ""
) -> Path:
    for index in range(4):
        put_photo(root / photos / f"{index:03d}.jpg", index)
        (root / folder).mkdir(exist_ok=True)
        (root / folder / f"{index:03d}.json").write_text(
            json.dumps(labelme_file(index, image_path(f"{index:03d}.jpg")))
        )
    return root


def labelme_file(index: int, image_path: str) -> dict[str, Any]:
    """A polygon, a mask, a rectangle with a line, a circle."""
    person, (height, width) = drawn.person(index), drawn.SIZE
    rows, columns = np.nonzero(person)
    top, left, right, bottom = int(rows.min()), int(columns.min()), int(columns.max()), int(rows.max())
    cut = person[top : bottom + 1, left : right + 1]
    one = {"label": "person", "group_id": None, "flags": {}}
    kinds: list[list[dict[str, Any]]] = [
        [{**one, "shape_type": "polygon", "points": points.astype(float).tolist()} for points in outlines(person)],
        [
            {
                **one,
                "shape_type": "mask",
                "points": [[left, top], [right, bottom]],
                "mask": base64.b64encode(png(cut)).decode(),
            }
        ],
        [
            {**one, "shape_type": "rectangle", "points": [[50.0, 80.0], [20.0, 30.0]]},
            {**one, "label": "strap", "shape_type": "linestrip", "points": [[1, 1], [9, 9]]},
        ],
        [{**one, "shape_type": "circle", "points": [[36.0, 40.0], [36.0, 60.0]]}],
    ]
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": kinds[index],
        "imagePath": image_path,
        "imageData": base64.b64encode(b"x" * 1000).decode(),
        "imageHeight": height,
        "imageWidth": width,
    }


def test_labelme(tmp_path: Path) -> None:
    data = opened(labelme(tmp_path), "labelme")
    close(data.load("000").mask, drawn.person(0), EDGE_PX)
    close(data.load("001").mask, drawn.person(1))
    box, disk = np.zeros(drawn.SIZE, np.uint8), np.zeros(drawn.SIZE, np.uint8)
    box[30:81, 20:51] = 1
    cv2.circle(disk, (36, 40), 20, 1, -1)
    close(data.load("002").mask, box > 0)
    close(data.load("003").mask, disk > 0, EDGE_PX)
    assert data.remarks == ("labels person, strap: person is person",)


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_labelme_files_apart_from_their_photos(tmp_path: Path, separator: str) -> None:
    labelme(tmp_path, lambda name: separator.join(("..", "images", name)), "images", "labels")
    close(opened(tmp_path, "labelme").load("labels/001").mask, drawn.person(1))


# --- bad input: one line that names the thing


def rewrite(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def of_escape(text: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        if (root / "000.json").exists():
            rewrite(root / "000.json", lambda v: v.update(imagePath=text))
        elif (root / "annotations.xml").exists():
            xml = (root / "annotations.xml").read_text()
            (root / "annotations.xml").write_text(xml.replace("p é0.jpg", text))
        else:
            rewrite(root / "annotations/instances_train2017.json", lambda v: v["images"][0].update(file_name=text))

    return damage


def in_json(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda root: rewrite(root / name, change)


def in_text(name: str, before: str, after: str, once: bool = True) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        text = (root / name).read_text()
        assert before in text
        (root / name).write_text(text.replace(before, after, 1 if once else -1))

    return damage


def link_out(root: Path) -> None:
    (root.parent / "secret.jpg").write_bytes((root / "000.jpg").read_bytes())
    (root / "000.jpg").unlink()
    (root / "000.jpg").symlink_to(root.parent / "secret.jpg")


ANN = "ds1/ann/00000.jpg.json"
INSTANCES = "annotations/instances_train2017.json"
BITMAP = base64.b64encode(zlib.compress(b"no PNG")).decode()


def bomb() -> str:
    """200 MB in 900 KB."""
    return base64.b64encode(zlib.compress(b"\0" * 200_000_000, 1)).decode()


CASES: list[tuple[str, Callable[[Path], None], str]] = [
    *(
        (name, of_escape(text), "leads out of DATA|no path within DATA")
        for name in ("labelme", "cvat", "coco")
        for text in ("../../etc/a.jpg", "/etc/passwd", "C:\\a.jpg", "..\\..\\a.jpg")
    ),
    ("labelme", link_out, "leads out of DATA"),
    ("labelme", in_json("001.json", lambda v: v.pop("imagePath")), "001.json: no 'imagePath'"),
    ("labelme", in_json("001.json", lambda v: v.pop("imageHeight")), "of '001': no 'imageHeight'"),
    ("labelme", in_json("001.json", lambda v: v.update(imageHeight=9)), "drawn on 72x9, the photo is 72x96"),
    ("labelme", in_json("001.json", lambda v: v["shapes"][0].update(mask="!")), "of '001': malformed"),
    ("labelme", in_json("000.json", lambda v: v["shapes"][0].update(points=[[1, 2]])), "needs three points"),
    (
        "labelme",
        in_json("000.json", lambda v: v["shapes"][0].update(points=[[1, 2], [3, float("nan")], [4, 5]])),
        "lie nowhere",
    ),
    ("labelme", in_json("000.json", lambda v: v["shapes"][0].update(shape_type="spline")), "a shape of kind 'spline'"),
    ("labelme", in_text("001.json", "{", "["), "001.json: not JSON"),
    ("labelme", lambda root: (root / "001.jpg").unlink(), "1 of 4 photos that it names are not there"),
    (
        "labelme",
        lambda root: [in_text(f"{i:03d}.json", '"person"', '"face"', once=False)(root) for i in range(4)] and None,
        "person_labels",
    ),
    ("supervisely", lambda root: (root / "meta.json").unlink(), "no 'meta.json'"),
    ("supervisely", lambda root: (root / ANN).unlink(), "no shapes in .*: add 00000.jpg.json"),
    ("supervisely", in_json(ANN, lambda v: v.pop("size")), "no 'size'"),
    ("supervisely", in_json(ANN, lambda v: v.update(size={"height": 5, "width": 5})), "drawn on 5x5"),
    ("supervisely", in_json(ANN, lambda v: v["objects"][0].pop("classTitle")), "no 'classTitle'"),
    ("supervisely", in_json(ANN, lambda v: v["objects"][0]["bitmap"].update(data=BITMAP)), "malformed"),
    ("supervisely", in_json(ANN, lambda v: v["objects"][0]["bitmap"].update(data=bomb())), "malformed"),
    ("coco", in_json(INSTANCES, lambda v: v["images"][0].pop("file_name")), "no 'file_name'"),
    ("coco", in_json(INSTANCES, lambda v: v["images"][0].update(width=71)), "drawn on 71x96|runs of a photo"),
    ("coco", in_json(INSTANCES, lambda v: v["annotations"][0].pop("image_id")), "no 'image_id'"),
    (
        "coco",
        in_json(INSTANCES, lambda v: v["annotations"][0].update(segmentation=[[1, 2, 3]])),
        "malformed|three points",
    ),
    (
        "coco",
        in_json(INSTANCES, lambda v: v["annotations"][0].update(segmentation={"size": [96, 72], "counts": [5, 10**9]})),
        "fill the photo|malformed",
    ),
    (
        "coco",
        in_json(INSTANCES, lambda v: v["annotations"][0].update(segmentation={"size": [96, 72], "counts": "zzzzz"})),
        "malformed",
    ),
    ("coco", in_json(INSTANCES, lambda v: v["categories"].pop(0)), "none of its labels is known to be person"),
    ("coco", in_text(INSTANCES, '"images": [', '"images": {'), "instances_train2017.json: malformed"),
    ("coco", lambda root: (root / "train2017/000000000000.jpg").unlink(), "1 of 6 photos that it names are not there"),
    ("cvat", in_text("annotations.xml", 'width="72"', ""), "no 'width'"),
    ("cvat", in_text("annotations.xml", 'width="72"', 'width="9"'), "drawn on 9x96"),
    ("cvat", in_text("annotations.xml", "<polygon ", "<spline "), "malformed XML|mismatched"),
    ("cvat", in_text("annotations.xml", 'rle="', 'rle="7, '), "runs of"),
    ("cvat", in_text("annotations.xml", "<image ", '<track id="1" label="person"/><image '), "of a video"),
    ("cvat", in_text("annotations.xml", 'utf-8"?>', 'utf-8"?><!DOCTYPE a [<!ENTITY b "c">]>'), "document type"),
    ("cvat", in_text("annotations.xml", "utf-8", "utf-16"), "UTF-8"),
    ("cvat", lambda root: (root / "images/p é1.jpg").unlink(), "1 of 5 photos that it names are not there"),
]

WRITERS: dict[str, Callable[[Path], Path]] = {
    "labelme": labelme,
    "supervisely": supervisely,
    "coco": coco,
    "cvat": cvat,
}


def load_all(root: Path, name: str) -> None:
    data = opened(root, name)
    for keys in data.splits.values():
        for key in keys:
            data.load(key)


@pytest.mark.parametrize(("name", "damage", "message"), CASES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CASES)])
def test_bad_input_is_one_line(tmp_path: Path, name: str, damage: Callable[[Path], None], message: str) -> None:
    root = tmp_path / "DATA"
    root.mkdir()
    damage(WRITERS[name](root))
    with pytest.raises(InputError, match=message) as caught:
        load_all(root, name)
    assert "\n" not in str(caught.value) and "/" in str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_values_of_masks_say_nothing_of_shapes(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"data\.person_labels"):
        opened(WRITERS[name](tmp_path), name, mask="person:2")
    with pytest.raises(InputError, match="no label 'nobody'"):
        opened(tmp_path, name, person_labels=["nobody"])


def test_nothing_but_names_is_kept(tmp_path: Path) -> None:
    """Shapes are read when a photo is: what is taken away after opening is missed then."""
    data = opened(labelme(tmp_path), "labelme")
    assert isinstance(data, ShapesDataset)
    (tmp_path / "001.json").unlink()
    data.load("000")
    with pytest.raises(InputError, match=r"001\.json: no such file"):
        data.load("001")
