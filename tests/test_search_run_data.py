"""What a search reads: images of targets and never their labels or test splits; bad input leaves nothing behind."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from policy_search import search_run
from policy_search.cells import CellDataset
from policy_search.cells.errors import InputError
from policy_search.config import SearchConfig
from policy_search.relaxed.search import SearchSettings
from policy_search.relaxed.target import TargetSettings
from policy_search.search_data import load_search_data
from policy_search.search_run import run_search
from tests.conftest import write_livecell
from tests.search_runs import tiny

pytestmark = pytest.mark.usefixtures("no_picture")


def test_a_target_gives_images_only_and_never_of_its_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: Counter[tuple[str, str, str]] = Counter()
    for method in ("image", "instances"):
        original = getattr(CellDataset, method)

        def spy(self: CellDataset, record: Any, method: str = method, original: Any = original) -> Any:
            looked[method, record.cell_type, record.split] += 1
            return original(self, record)

        monkeypatch.setattr(CellDataset, method, spy)
    outcome = run_search(tiny(tmp_path / "run", target=("BT474", "demo/MCF7"), steps=16))
    targets = {("image", name, split) for name in ("BT474", "MCF7") for split in ("train", "unlabeled")}
    assert set(looked) == targets | {("image", "A172", "train"), ("instances", "A172", "train")}
    assert all(looked[key] == 2 for key in targets)
    assert outcome.document is not None
    extra = outcome.document.provenance.model_dump()
    assert (extra["mode"], extra["targets"], extra["target_images"]) == ("target", ["BT474", "MCF7"], 8)
    assert extra["synthetic"] is True


def test_the_labels_of_a_target_do_not_matter(tmp_path: Path) -> None:
    """Every outline of the target is replaced; the policy file stays the same, byte for byte."""
    root = write_livecell(tmp_path / "cells", {"A172": {"train": 2}, "BV2": {"train": 2, "test": 1}})
    config = {"data": "A172", "root": root, "target": ("BV2",), "steps": 16}
    run_search(tiny(tmp_path / "one", **config))
    labels = root / "annotations" / "LIVECell_single_cells" / "bv2" / "train.json"
    content = json.loads(labels.read_text())
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[1, 1, 60, 1, 60, 60, 1, 60]]
    labels.write_text(json.dumps(content))
    run_search(tiny(tmp_path / "two", **config))
    one, two = (tmp_path / name / "policy.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    # Its pixels do.
    victim = next((root / "images").rglob("BV2_Phase_A1_1_00d00h00m_1.tif"))
    with Image.open(victim) as picture:
        pixels = np.asarray(picture).copy()
    pixels[40, 40] ^= 1
    Image.fromarray(pixels).save(victim)
    with pytest.raises(InputError, match="the data has changed"):
        run_search(tiny(tmp_path / "two", **config))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": ("A172",)}, "A172 is the source type"),
        ({"target": ("BT474",), "steps": 11}, "target mode learns in stretches and needs at least 12"),
        ({"target": ("BT747",)}, "Did you mean BT474"),
        ({"target": ("cells/x.json",)}, "is synthetic, so its targets must be too"),
        ({"operations": ("scale", "sclae")}, "unknown operation 'sclae', expected names among .*scale"),
        ({"target": ("BT474",), "operations": ("scale", "crop_resize")}, "all of them change the size of the cells"),
        ({"device": "cuda"}, "finds no CUDA device"),
    ],
)
def test_bad_input_leaves_no_folder(
    tmp_path: Path, changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=words):
        run_search(tiny(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_real_cells_are_never_matched_to_synthetic_ones(livecell_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="demo/BT474 is synthetic and --data A172 is not"):
        run_search(tiny(tmp_path / "run", data="A172", root=livecell_root, target=("demo/BT474",)))
    data = load_search_data(tiny(tmp_path, data="A172", root=livecell_root, target=("SKBR3", "BV2")))
    assert (len(data.pairs), len(data.target), tuple(data.targets)) == (2, 2, ("SKBR3", "BV2"))


def test_the_defaults_are_the_engines() -> None:
    fields = SearchConfig.model_fields
    assert fields["steps"].default is None
    for engine in (SearchSettings(), TargetSettings()):
        for name in ("sub_policies", "crop", "batch"):
            assert fields[name].default == getattr(engine, name), name


def test_the_device_reaches_both_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    for engine in ("Search", "TargetSearch"):
        monkeypatch.setattr(search_run, engine, lambda *data, **keywords: made.append(keywords))
    data = load_search_data(tiny(tmp_path, target=("BT474",)))
    for settings in (SearchSettings(), TargetSettings()):
        search_run.begin(data, settings, 0, "cuda")
    assert made == [{"device": "cuda"}] * 2
