"""The checkpoint: a search comes back bit for bit, and a file that does not fit is refused with one sentence."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from policy_search.cells.errors import InputError
from policy_search.relaxed.checkpoint import load_checkpoint, save_checkpoint
from policy_search.relaxed.crops import CropSampler, Pair
from policy_search.relaxed.search import Search, SearchSettings
from policy_search.relaxed.threads import one_thread
from tests.relaxed.textures import culture

SMALL = SearchSettings(sub_policies=2, steps=6, warmup=2, batch=4, crop=32, margin=8)


@pytest.fixture(autouse=True)
def single_thread() -> object:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def source() -> list[Pair]:
    return [culture(seed) for seed in range(3)]


def begun(source: list[Pair], settings: SearchSettings = SMALL, *, steps: int = 0, seed: int = 5) -> Search:
    search = Search(CropSampler(source), None, settings, seed)
    for _ in range(steps):
        search.step()
    return search


@pytest.fixture
def file(source: list[Pair], tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, begun(source, steps=4), seed=5, fingerprint="cells")
    return path


def flat(value: object, name: str = "") -> dict[str, object]:
    """Nested mappings and lists as one mapping of leaves."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, inner in items for k, v in flat(inner, f"{name}.{key}").items()}
    return {name: value}


def same(first: object, second: object) -> bool:
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def test_a_search_comes_back_bit_for_bit(source: list[Pair], file: Path) -> None:
    whole, resumed = begun(source, steps=4), begun(source)
    load_checkpoint(file, resumed, seed=5, fingerprint="cells")
    assert [whole.step() for _ in range(4)] == [resumed.step() for _ in range(4)]
    wanted, found = flat(whole.state_dict()), flat(resumed.state_dict())
    assert wanted.keys() == found.keys()
    assert all(same(wanted[name], found[name]) for name in wanted)


@pytest.mark.parametrize(
    ("settings", "seed", "fingerprint", "words"),
    [
        (SMALL, 6, "cells", "seed was 5, now 6"),
        (SMALL, 5, "others", "the data has changed"),
        (SMALL.model_copy(update={"steps": 7}), 5, "cells", "steps was 6, now 7"),
        (SMALL.model_copy(update={"operation_names": ("scale",)}), 5, "cells", r"operation_names was \[\], now \['sc"),
    ],
)
def test_another_search_is_refused_and_left_as_it_was(
    source: list[Pair], file: Path, settings: SearchSettings, seed: int, fingerprint: str, words: str
) -> None:
    search = begun(source, settings, seed=seed)
    with pytest.raises(InputError, match=words):
        load_checkpoint(file, search, seed=seed, fingerprint=fingerprint)
    assert search.done == -2


def test_damage_is_noticed_wherever_it_is(source: list[Pair], file: Path) -> None:
    whole = file.read_bytes()
    search = begun(source)
    before = flat(search.state_dict())
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    inside = largest.header_offset + 200 + largest.file_size // 2
    flipped = whole[:inside] + bytes([whole[inside] ^ 1]) + whole[inside + 1 :]
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:-1], flipped):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
            load_checkpoint(file, search, seed=5, fingerprint="cells")
    after = flat(search.state_dict())
    assert all(same(before[name], after[name]) for name in before)


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_a_file_never_runs_code(source: list[Pair], file: Path, tmp_path: Path) -> None:
    torch.save({"schema": 1, "state": Bomb(tmp_path / "ran")}, file)
    with pytest.raises(InputError, match="damaged or not a checkpoint"):
        load_checkpoint(file, begun(source), seed=5, fingerprint="cells")
    file.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(InputError, match="damaged or not a checkpoint"):
        load_checkpoint(file, begun(source), seed=5, fingerprint="cells")
    assert not (tmp_path / "ran").exists()


def test_another_version_is_refused(source: list[Pair], file: Path) -> None:
    content = torch.load(file, weights_only=True)
    torch.save({**content, "schema": 99}, file)
    with pytest.raises(InputError, match="schema 99, this version reads 2"):
        load_checkpoint(file, begun(source), seed=5, fingerprint="cells")
    del content["state"]["critic"]
    torch.save(content, file)
    with pytest.raises(InputError, match="written by another version"):
        load_checkpoint(file, begun(source), seed=5, fingerprint="cells")
    torch.save([1, 2], file)
    with pytest.raises(InputError, match="expected a mapping, found list"):
        load_checkpoint(file, begun(source), seed=5, fingerprint="cells")
