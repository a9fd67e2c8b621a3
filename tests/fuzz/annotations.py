"""What must hold for every COCO file: a dataset whose cells are all there or counted, or a sentence; and the corpus."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from policy_search.cells import coco as coco_module
from policy_search.cells.annotations import source, stamps
from policy_search.cells.checks import Check, Finding
from policy_search.cells.coco import read_coco
from policy_search.cells.dataset import CellDataset
from policy_search.cells.errors import DataError, InputError
from policy_search.cells.sources import SPLITS, resolve
from policy_search.cli import app
from tests.cells.annotations.odd import content
from tests.fuzz.sentences import check_sentence

SIZE = (20, 24)
LEFT_OUT = ("crowd-region", "cell-empty", "cell-outside", "cell-without-pixel")


def _tidy() -> dict[str, Any]:
    """Two images; polygons, both kinds of run-length codes, a crowd, shapes without pixels."""
    square = [[2.0, 2.0, 9.0, 2.0, 9.0, 9.0, 2.0, 9.0]]
    shapes: list[Any] = [
        square, [[10, 3, 15, 3, 15, 8, 10, 8]], {"size": list(SIZE), "counts": "37:Ol="},
        {"size": list(SIZE), "counts": [5, 10, 465]}, [], [[1.0, 1.0, 2.0, 2.0]], [[40, 40, 50, 40, 50, 50]],
        [[3.0, 3.0, 3.1, 3.0, 3.1, 3.1]], [*square, [12, 12, 18, 12, 18, 18]],
    ]  # fmt: skip
    images = [
        {"id": i, "file_name": f"A172_Phase_A{i}_1_00d00h00m_1.png", "height": SIZE[0], "width": SIZE[1]}
        for i in (1, 2)
    ]
    annotations = [
        {"id": number, "image_id": 1 + number % 2, "category_id": 1, "iscrowd": int(number == 17),
         "segmentation": shape, "bbox": [2, 2, 7, 7], "area": 49}
        for number, shape in enumerate(shapes * 2)
    ]  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}


def _more() -> dict[str, Any]:
    """With the keys that only our own files have."""
    found = _tidy()
    found["images"][0] |= {"cell_type": "BT474", "well": "B3", "position": 2, "page": 1, "annotated": True}
    found["images"][1] |= {"annotated": False, "annotation_incomplete": True}
    found["annotations"] = found["annotations"][:4]
    return found


CORPUS = [_tidy(), _more(), content(), content(mapping=True, images_mapping=True)]


def write_pictures(folder: Path) -> None:
    """The image files that the corpus names."""
    pixels = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    for number in (1, 2):
        Image.fromarray(pixels).save(folder / f"A172_Phase_A{number}_1_00d00h00m_1.png")


def check_annotations(path: Path) -> int | None:
    """Read it as a small file and twice by way of a copy; check it. The cells in it, None where it is refused."""
    if not (path.parent / "A172_Phase_A1_1_00d00h00m_1.png").exists():
        write_pictures(path.parent)
    cache = path.parent / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    with mock.patch.dict("os.environ", XDG_CACHE_HOME=str(cache)):
        small = _seen(path)
        with mock.patch.object(source, "SMALL", 0):
            assert _seen(path) == small
            assert _seen(path) == small
        checked = CliRunner().invoke(app, ["data", "check", "--data", str(path), "--json"])
        if small is None:
            assert isinstance(checked.exception, InputError) or checked.exit_code == 1
            return None
        if isinstance(checked.exception, InputError):
            check_sentence(checked.exception, "has no image")
            return None
        assert checked.exception is None or isinstance(checked.exception, SystemExit), checked.exception
        assert checked.exit_code in (0, 1)
        json.loads(checked.stdout)
        return _counted(path)


def _forget() -> None:
    coco_module._READ_BEFORE.clear()
    stamps._memory.clear()


def _seen(path: Path) -> list[Any] | None:
    """All that a program can see of a file."""
    _forget()
    try:
        coco = read_coco(path)
        datasets = [resolve(str(path), split, missing_ok=True) for split in SPLITS]
    except InputError as error:
        check_sentence(error, path.name)
        return None
    seen: list[Any] = [json.dumps(list(coco.images.values())), coco.replaced, coco.categories]
    seen += [[i, json.dumps(coco.annotations[i])] for i in coco.annotations if i == i]  # NaN is no key
    for dataset in datasets:
        for record in dataset:
            try:
                made = dataset.instances(record)
                seen.append((record, made.layers.tobytes(), made.layers.shape))
            except DataError as error:
                check_sentence(error)
                seen.append((record, str(error)))
    return json.loads(json.dumps(seen, default=str))


def _counted(path: Path) -> int:
    """Annotations in the file are cells, or a finding counts them."""
    _forget()
    coco, cells = read_coco(path), 0
    given = sum(len(coco.annotations[i]) for i in coco.annotations)
    accounted = 0
    told = False  # orphans belong to the file, not to a split
    for split in ("train", "unlabeled"):
        dataset = resolve(str(path), split, missing_ok=True)
        check = Check()
        check.add(dataset)
        findings = check.report().findings
        own, out = _of_split(dataset, findings)
        accounted += own
        cells += out
        if not told:
            accounted += sum(f.count for f in findings if f.code == "annotation-orphaned")
            told = len(dataset) > 0
    assert accounted == given, f"{given} annotations, {accounted} of them are cells or counted"
    return cells


def _of_split(dataset: CellDataset, findings: tuple[Finding, ...]) -> tuple[int, int]:
    """Annotations that are accounted for, and cells."""
    accounted = cells = 0
    by_record: dict[str, Counter[str]] = {}
    for finding in findings:
        by_record.setdefault(finding.record, Counter())[finding.code] += finding.count
    reader: Any = dataset.reader
    for record in {record.id: record for record in dataset}.values():
        found = by_record.get(record.id, Counter())
        if not record.annotated:
            accounted += found["annotation-hidden"]
            continue
        annotations = len(reader.sources[record.id][0].annotations.get(reader.sources[record.id][1], []))
        if found["shapes-damaged"]:
            accounted += annotations
            continue
        instances = len(dataset.instances(record))
        counted = instances + sum(found[code] for code in LEFT_OUT)
        assert counted == annotations, f"{record.id}: {annotations} annotations, {counted} are cells or counted"
        accounted += counted
        cells += instances
    return accounted, cells
