"""What a study reads: never a test split, validation held out of training, fingerprints of what was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from policy_search.cells import CellDataset, ImageRecord, InstanceMap
from policy_search.cells.errors import DataError, InputError
from policy_search.cells.livecell import FileReader
from policy_search.study import splits
from policy_search.study.data import (
    DOMAIN_PIXELS,
    load_study_data,
    split_across,
    split_by_wells,
    windows,
)
from policy_search.study.shifts import HELD_BACK
from policy_search.study.splits import read_split, spread_over_wells
from tests.conftest import write_livecell
from tests.study.conftest import culture


@pytest.mark.parametrize("split", ["test", "Test", "everything"])
def test_other_splits_are_refused(split: str, livecell_root: Path) -> None:
    with pytest.raises(InputError, match="never reads"):
        read_split("A172", split, livecell_root)


def test_no_test_image_is_ever_opened(livecell_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spy in the reader sees every image and every annotation that a study asks for."""
    opened: list[ImageRecord] = []

    def spy(name: str) -> None:
        original = getattr(FileReader, name)

        def wrapped(self: FileReader, record: ImageRecord) -> Any:
            opened.append(record)
            return original(self, record)

        monkeypatch.setattr(FileReader, name, wrapped)

    for name in ("image", "instances", "content_key"):
        spy(name)
    load_study_data("A172", root=livecell_root)
    load_study_data("A172", root=livecell_root, validate_on=["BV2"])
    assert {record.split for record in opened} == {"train", "val"}
    assert {record.cell_type for record in opened} == {"A172", "BV2"}


def test_a_source_that_hands_out_another_split_is_refused(livecell_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = splits.resolve
    monkeypatch.setattr(splits, "resolve", lambda data, split, root, missing_ok: resolve(data, "test", root))
    with pytest.raises(InputError, match="another split"):
        load_study_data("A172", root=livecell_root)


def test_validation_split_under_every_shift(livecell_root: Path) -> None:
    data = load_study_data("A172", root=livecell_root)
    assert [domain.name for domain in data.domains] == [shift.name for shift in HELD_BACK]
    assert len(data.train) == 3
    assert all(len(domain.samples) == 2 for domain in data.domains)
    assert "val split" in data.validation
    assert not {s.id for s in data.train} & {s.id for d in data.domains for s in d.samples}


def test_without_a_validation_split_whole_wells_are_held_out(tmp_path: Path) -> None:
    root = write_livecell(tmp_path, {"A172": {"train": 6}})  # wells A1, A1, A2, A2, A3, A3
    data = load_study_data("A172", root=root)
    assert len(data.train) == 4
    assert len(data.domains[0].samples) == 2
    assert all("_A3_" in s.id for s in data.domains[0].samples)
    assert not any("_A3_" in s.id for s in data.train)
    assert "A172/A3 of the source" in data.validation


def test_one_well_is_cut_in_two(tmp_path: Path) -> None:
    root = write_livecell(tmp_path, {"A172": {"train": 1}})
    data = load_study_data("A172", root=root)
    assert data.train[0].image.shape == (96, 75)
    assert data.domains[0].samples[0].image.shape == (96, 37)
    assert "right third" in data.validation


def test_named_types_are_scored_on_their_labelled_images(livecell_root: Path) -> None:
    data = load_study_data("A172", root=livecell_root, validate_on=["BV-2"])
    assert [(d.name, len(d.samples)) for d in data.domains] == [("BV-2", 1)]
    assert "labelled" in data.validation
    with pytest.raises(InputError, match="source type"):
        load_study_data("A172", root=livecell_root, validate_on=["A172"])
    with pytest.raises(DataError, match="no labelled"):
        load_study_data("A172", root=livecell_root, validate_on=["SkBr3"])


def test_fingerprint_follows_the_data(livecell_root: Path) -> None:
    first = load_study_data("A172", root=livecell_root).fingerprint
    assert first == load_study_data("a-172", root=livecell_root).fingerprint
    file = next(livecell_root.glob("images/livecell_train_val_images/A172/A172_Phase_B*"))
    file.write_bytes(file.read_bytes() + b"\0")
    assert load_study_data("A172", root=livecell_root).fingerprint != first


def test_targets_give_images_without_labels(livecell_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_study_data("A172", root=livecell_root)
    assert plain.targets == {}
    labelled: set[str] = set()
    original = FileReader.instances

    def spy(self: FileReader, record: ImageRecord) -> InstanceMap:
        labelled.add(record.cell_type)
        return original(self, record)

    monkeypatch.setattr(FileReader, "instances", spy)
    data = load_study_data("A172", root=livecell_root, target=["bv-2", "SkBr3"])
    assert {name: [image.shape for image in images] for name, images in data.targets.items()} == {
        "BV2": [(96, 112)],
        "SKBR3": [(96, 112)],
    }
    assert labelled == {"A172"}
    assert data.fingerprint.startswith(plain.fingerprint + "-")
    Image.fromarray(np.zeros((96, 112), np.uint8)).save(next(livecell_root.glob("unlabeled/SkBr3/*.tif")))
    assert load_study_data("A172", root=livecell_root, target=["BV2", "SkBr3"]).fingerprint != data.fingerprint
    with pytest.raises(InputError, match="source type"):
        load_study_data("A172", root=livecell_root, target=["A172"])


def test_the_held_out_source_is_untouched_and_not_trained_on(livecell_root: Path, tmp_path: Path) -> None:
    data = load_study_data("A172", root=livecell_root)
    assert [s.id for s in data.held_out] == [s.id for s in data.domains[0].samples]
    assert data.domains[0].name == "unshifted"
    assert not {s.id for s in data.train} & {s.id for s in data.held_out}
    elsewhere = load_study_data("A172", root=livecell_root, validate_on=["BV2"])
    assert [s.id for s in elsewhere.held_out] == [s.id for s in data.held_out]
    no_val = write_livecell(tmp_path / "more", {"A172": {"train": 2}, "BV2": {"train": 1}})
    assert load_study_data("A172", root=no_val, validate_on=["BV2"]).held_out == ()


def records(*wells: str) -> list[ImageRecord]:
    return [ImageRecord(f"{w}/{i}", "A172", "train", w, 8, 8) for i, w in enumerate(wells)]


def test_few_images_come_from_many_wells() -> None:
    found = spread_over_wells(records("a", "a", "a", "b", "b", "c"), 3)
    assert [r.well for r in found] == ["a", "b", "c"]
    assert len(spread_over_wells(records("a", "a", "a", "b"), 3)) == 3
    assert len(spread_over_wells(records("a", "b"), 9)) == 2
    # Within a well: first and last, not two neighbours.
    assert [r.id for r in spread_over_wells(records("a", "a", "a", "a", "a"), 2)] == ["a/0", "a/4"]


def test_wells_are_never_divided() -> None:
    assert split_by_wells(records("a", "a")) is None
    train, held = split_by_wells(records("a", "b", "a", "c", "c")) or ([], [])
    assert {r.well for r in train} == {"a", "b"}
    assert {r.well for r in held} == {"c"}


def test_cutting_an_image_keeps_every_pixel_and_its_label() -> None:
    sample = culture(0)
    left, right = split_across(sample)
    assert np.array_equal(np.concatenate([left.image, right.image], 1), sample.image)
    labels = sample.instances.label_image()
    joined = np.concatenate([left.instances.label_image(), right.instances.label_image()], 1)
    changed = joined != labels
    assert (joined[changed] == 0).all()  # pieces under 10 pixels, nothing else
    for part, cut in ((left, labels[:, :85]), (right, labels[:, 85:])):
        kept = {int(v) for v in np.unique(cut) if v and (cut == v).sum() >= 10}
        assert set(part.instances.ids.tolist()) == kept


def test_windows_bound_the_pixels() -> None:
    large = [culture(seed, 300, 500, 30) for seed in range(8)]
    found = windows(large)
    assert len(found) == 6
    assert sum(s.image.size for s in found) <= DOMAIN_PIXELS
    assert found[0].image.shape == (258, 258)
    assert np.array_equal(found[0].image, large[0].image[21:279, 121:379])
    assert np.array_equal(
        found[0].instances.foreground(),
        large[0].instances.map_layers(lambda p: p[21:279, 121:379]).drop_specks(10).foreground(),
    )
    assert [s.id for s in windows([culture(1)])] == ["blobs/1"]


def test_colour_images_are_read_as_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    class Colours:
        def image(self, record: ImageRecord) -> np.ndarray:
            return np.dstack([culture(0).image] * 3)

        def instances(self, record: ImageRecord) -> InstanceMap:
            return culture(0).instances

        def content_key(self, record: ImageRecord) -> str:
            return "1"

    def resolve(data: str, split: str, root: Path | None, missing_ok: bool = False) -> CellDataset:
        found = (ImageRecord("x", "own", split, "w", 128, 128),) if split == "train" else ()
        return CellDataset(data, found, Colours())

    monkeypatch.setattr(splits, "resolve", resolve)
    data = load_study_data("x.json", root=None)
    assert np.abs(data.train[0].image.astype(int) - culture(0).image[:, :85]).max() <= 1
