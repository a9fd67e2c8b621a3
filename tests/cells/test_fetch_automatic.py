"""Naming a LIVECell type when LIVECell is not there."""

from __future__ import annotations

import shutil

import pytest

from policy_search.cells import resolve
from policy_search.cells.checks import open_splits
from policy_search.cells.errors import DataError
from policy_search.cells.fetch_automatic import fetch_command
from policy_search.cells.livecell import forget_images
from policy_search.cells.sources import cache_root
from tests.cells.flaky_server import Fault
from tests.cells.livecell_mirror import A172_TRAIN, tree


@pytest.fixture
def cache(mirror, monkeypatch, tmp_path):
    """An empty user cache, and fetching allowed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("POLICY_SEARCH_OFFLINE")
    monkeypatch.delenv("LIVECELL_ROOT", raising=False)
    return cache_root()


def test_what_is_asked_for_is_fetched_once(mirror, cache, capsys):
    dataset = resolve("a-172")
    assert [record.well for record in dataset] == ["A172/A1", "A172/A1", "A172/A2"]
    assert dataset.image(dataset.records[0]).shape == (48, 56)
    assert tree(cache) == mirror.of("A172", "train")
    out, err = capsys.readouterr()
    assert out == "", "a command's output stays its own"
    assert "CC BY-NC 4.0" in err
    assert "images, 3 files" in err
    asked = len(mirror.server.log)
    assert len(resolve("A172")) == 3
    assert len(mirror.server.log) == asked, "nothing is asked where nothing is missing"
    assert len(resolve("A172,BT474", "test")) == 3
    assert tree(cache) == mirror.of("A172", "train", "test") | mirror.of("BT474", "test")
    assert "CC BY-NC" not in capsys.readouterr().err
    assert not [a for a in mirror.server.log[asked:] if "train" in a.path]


def test_a_check_looks_at_what_is_there_and_fetches_nothing(mirror, cache):
    resolve("A172", "train")
    asked = len(mirror.server.log)
    opened = [one for one in open_splits("A172") if len(one.dataset)]
    assert [one.dataset.records[0].split for one in opened] == ["train"]
    assert len(mirror.server.log) == asked
    assert tree(cache) == mirror.of("A172", "train")


def test_a_lost_image_is_fetched_by_itself(mirror, cache):
    resolve("A172")
    lost = min(cache.rglob("*.tif"))
    lost.unlink()
    forget_images()  # as in a new process
    resolve("A172")
    assert tree(cache) == mirror.of("A172", "train")


def test_all_means_the_eight_types(mirror, cache):
    """Six are not on this server: the first of them is named, and those that are there are kept by name."""
    with pytest.raises(DataError, match=r"bv2/train\.json .*404"):
        resolve("all")
    mirror.server.files |= {
        name.replace("a172", kind.lower()): content.replace(b"A172", kind.encode())
        for name, content in mirror.server.files.items()
        if "a172/test" in name
        for kind in ("BV2", "Huh7", "MCF7", "SHSY5Y", "SkBr3", "SKOV3")
    }
    with pytest.raises(DataError, match=r"lacks 12 of the 15 images"):
        resolve("all", "test")


def test_who_names_a_folder_is_told_the_command(mirror, cache, monkeypatch, tmp_path):
    with pytest.raises(DataError, match=f"policy-search data fetch A172 --root {tmp_path}/nowhere"):
        resolve("A172", root=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"policy-search data fetch A172 --root {tmp_path}/empty"):
        resolve("A172", root=tmp_path / "empty")
    resolve("A172")
    shutil.move(cache, tmp_path / "mine")
    monkeypatch.setenv("LIVECELL_ROOT", str(tmp_path / "mine"))
    assert len(resolve("A172")) == 3
    with pytest.raises(DataError, match=f"policy-search data fetch A172 --split val --root {tmp_path}/mine"):
        resolve("A172", "val")
    assert not [asked for asked in mirror.server.log if "val" in asked.path]


def test_turned_off(mirror, cache, monkeypatch):
    monkeypatch.setenv("POLICY_SEARCH_OFFLINE", "1")
    with pytest.raises(DataError, match=r"looked for in .*`policy-search data fetch A172` fetches it.* demo/A172"):
        resolve("A172")
    monkeypatch.setenv("POLICY_SEARCH_OFFLINE", "0")
    resolve("A172")
    monkeypatch.setenv("POLICY_SEARCH_OFFLINE", "1")
    asked = len(mirror.server.log)
    assert len(resolve("all")) == 3, "what is there is used"
    with pytest.raises(DataError, match=r"A172 has no val images.*`policy-search data fetch A172 --split val` fetches"):
        resolve("A172", "val")
    assert len(mirror.server.log) == asked


def test_what_is_never_fetched(mirror, cache):
    with pytest.raises(DataError, match="demo/A172"):
        resolve("A172", "unlabeled")
    with pytest.raises(DataError, match="Did you mean A172"):
        resolve("A173")
    with pytest.raises(DataError, match="demo/A172"):
        resolve("A172", fetch=False)
    assert len(resolve("demo/A172", "val")) > 0
    assert mirror.server.log == []
    assert not cache.exists()


def test_without_a_network(mirror, cache, monkeypatch, capsys):
    monkeypatch.setenv("LIVECELL_URL", "http://127.0.0.1:9/")  # nobody listens at port 9
    with pytest.raises(DataError, match=r"train\.json.*refused.*looked for in .*livecell.*--data demo/A172.*OFFLINE=1"):
        resolve("A172")
    monkeypatch.setenv("POLICY_SEARCH_OFFLINE", "1")
    with pytest.raises(DataError, match=r"LIVECell is not here: A172 was looked for in .* demo/A172"):
        resolve("A172")


def test_ctrl_c_says_what_goes_on(mirror, cache, monkeypatch, capsys):
    mirror.server.faults[A172_TRAIN] = [Fault("cut", 100)]

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("policy_search.cells.remote.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        resolve("A172")
    assert "policy-search data fetch A172 --split train" in capsys.readouterr().err
    assert (cache / (A172_TRAIN + ".part")).stat().st_size == 100


def test_the_detection_package_gets_it_the_same_way(mirror, cache):
    pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")
    from detection.testing_on import resolve as resolve_for_detection

    assert len(resolve_for_detection("BT474", "test")) == 1
    assert tree(cache) == mirror.of("BT474", "test")


def test_commands_can_be_pasted():
    assert fetch_command(["A172"], "val", "/my data") == "policy-search data fetch A172 --split val --root '/my data'"
