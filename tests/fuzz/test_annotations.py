"""Damaged COCO files: each gives a dataset in which every annotation is a cell or counted, or a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fuzz import imports
from tests.fuzz.annotations import CORPUS, check_annotations
from tests.fuzz.targets import FIXED, TARGETS, run


@pytest.mark.parametrize(("number", "cells"), [(0, 9), (1, 2), (2, 21), (3, 21)])
def test_the_corpus_itself_is_read(tmp_path: Path, number: int, cells: int) -> None:
    (tmp_path / "cells.json").write_text(json.dumps(CORPUS[number]))
    assert check_annotations(tmp_path / "cells.json") == cells


def test_a_damaged_file_is_a_dataset_or_an_error_small_or_large_the_first_time_or_the_second(tmp_path: Path) -> None:
    run(TARGETS["annotations"], tmp_path, settings(FIXED, max_examples=120))


def test_a_file_cut_off_anywhere_is_an_error(tmp_path: Path) -> None:
    data = json.dumps(CORPUS[1]).encode()
    for size in range(0, len(data), 23):
        (tmp_path / "cells.json").write_bytes(data[:size])
        assert check_annotations(tmp_path / "cells.json") is None


def test_a_damaged_file_is_imported_or_an_error(tmp_path: Path) -> None:
    run(TARGETS["imports"], tmp_path, settings(FIXED, max_examples=80))


@pytest.mark.parametrize("name", imports.CORPUS)
def test_label_images_of_every_kind_are_imported_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(imports.CORPUS[name])
    assert imports.check_labels(tmp_path / name) == 6


def test_a_damaged_label_image_is_imported_or_an_error(tmp_path: Path) -> None:
    run(TARGETS["labels"], tmp_path, settings(FIXED, max_examples=80))
