"""The size of a target's cells in a search run: found once, kept, and what the search and its policy do with it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest

from policy_search import search_run, search_sizes
from policy_search.augment import load_policy
from policy_search.cells.errors import InputError
from policy_search.relaxed.search import SearchDivergedError
from policy_search.search_data import load_search_data
from policy_search.search_run import SearchEvent, run_search
from policy_search.search_sizes import sizes_of
from policy_search.study import sizes
from policy_search.study.probe import Base, ProbeError
from policy_search.study.sizes import Recognised
from tests.search_runs import tiny

pytestmark = pytest.mark.usefixtures("no_picture")


def target_run(out: Path, **changes: Any) -> Any:
    return tiny(out, **{"target": ("BT474", "MCF7"), "steps": 16, **changes})


def answers(monkeypatch: pytest.MonkeyPatch, own: float, **said: float) -> None:
    """The network says these sizes, its own source's first; each call is for the next."""
    asked = iter([own, *said.values()])

    def recognise(networks: list[Base], images: Any) -> Recognised:
        size = next(asked)
        return Recognised(size, {0.5: 0.9 if size != 1 else 0.1, 0.8: 0.3, 1.0: 0.5})

    monkeypatch.setattr(sizes, "recognise", recognise)


def kinds(transform: A.BaseCompose) -> list[str]:
    """Class names of everything in a transform."""
    return [
        name
        for child in transform.transforms
        for name in [type(child).__name__, *(kinds(child) if isinstance(child, A.BaseCompose) else [])]
    ]


def test_the_policy_scales_to_each_size_and_nothing_else_in_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, own=1, BT474=0.5, MCF7=1)
    sources: list[Any] = []
    original = search_run.source_sampler
    monkeypatch.setattr(search_run, "source_sampler", lambda *a: sources.append(original(*a)) or sources[-1])
    lines: list[str] = []
    outcome = run_search(
        target_run(tmp_path / "run"), listener=lambda e: lines.append(e.message) if e.message else None
    )
    assert lines[1] == "size of the cells, in the source's: BT474 0.50, MCF7 1 (no other is clear)"
    # Both sizes of both images, the small ones mirrored outwards.
    assert len(sources[0]._sides) == 4
    assert outcome.document is not None
    assert outcome.document.provenance.model_dump()["sizes"] == {"BT474": 0.5, "MCF7": 1.0}
    flip, scale, matched = outcome.document.compose().transforms
    assert kinds(flip) == ["HorizontalFlip", "VerticalFlip"]
    assert [type(branch.transforms[0]).__name__ for branch in scale.transforms] == ["Affine", "NoOp"]
    assert scale.transforms[0].transforms[0].scale["x"] == pytest.approx((0.45, 0.55))
    assert matched.p == 0.5
    for sub_policy in matched.transforms[0].transforms:
        for affine in (t for stage in sub_policy.transforms for b in stage.transforms for t in b.transforms):
            if isinstance(affine, A.Affine):
                assert np.prod([np.mean(affine.scale[axis]) for axis in "xy"]) == pytest.approx(1.0, abs=1e-6)


def test_sizes_are_found_once_and_a_stopped_run_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    original = search_sizes.train_networks
    monkeypatch.setattr(search_sizes, "train_networks", lambda *a, **k: trained.append(1) or original(*a, **k))
    run_search(target_run(tmp_path / "whole"))
    assert trained == [1]
    kept = json.loads((tmp_path / "whole" / "sizes.json").read_text())
    assert list(kept) == ["BT474", "MCF7"]
    assert all(0 <= value <= 1 for one in kept.values() for value in one["confidence"].values())

    class Enough(Exception):
        pass

    def stop(event: SearchEvent) -> None:
        if event.done == 9 and event.report is not None:
            raise Enough

    with pytest.raises(Enough):
        run_search(target_run(tmp_path / "run"), listener=stop)
    run_search(target_run(tmp_path / "run"))
    assert trained == [1, 1]
    for name in ("sizes.json", "policy.json", "history.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_network_that_does_not_know_its_source_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, own=0.5, BT474=0.5, MCF7=0.5)
    lines: list[str] = []
    data = load_search_data(target_run(tmp_path))
    found = sizes_of(tmp_path / "sizes.json", data, steps=3, seed=0, tell=lines.append)
    assert found == {"BT474": 1.0, "MCF7": 1.0}
    assert "not recognised, as networks of the source do not know their own" in lines[-1]
    assert sizes_of(tmp_path / "sizes.json", data, steps=3, seed=0, tell=lines.append) == found


def test_without_the_network_the_statistics_decide(tmp_path: Path) -> None:
    outcome = run_search(target_run(tmp_path / "run", recognise_steps=0))
    assert not (tmp_path / "run" / "sizes.json").exists()
    assert outcome.document is not None
    assert "sizes" not in outcome.document.provenance.model_dump()
    assert len(outcome.document.compose().transforms) == 1


def test_operations_that_are_left_out_are_named(tmp_path: Path) -> None:
    lines: list[str] = []
    changes: dict[str, Any] = {"operations": ("scale", "rotate", "stretch_x", "gamma")}
    for name, steps in (("with", 3), ("without", 0)):
        run_search(
            target_run(tmp_path / name, recognise_steps=steps, **changes),
            listener=lambda event: lines.append(event.message),
        )
    assert [line for line in lines if "left out" in line] == [
        "left out, as the size of the cells is recognised first: scale, stretch_x"
    ]


def test_source_mode_asks_for_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_search_data(tiny(tmp_path))
    assert sizes_of(tmp_path / "sizes.json", data, steps=3, seed=0, tell=lambda text: None) == {}
    assert not (tmp_path / "sizes.json").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"BT474": {"size": 1.0}}', '{"BT474": {}, "MCF7": {}}'])
def test_damage_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "sizes.json").write_text(content)
    data = load_search_data(target_run(tmp_path))
    with pytest.raises(InputError, match=r"sizes\.json is damaged"):
        sizes_of(tmp_path / "sizes.json", data, steps=3, seed=0, tell=lambda text: None)
    assert (tmp_path / "sizes.json").read_text() == content


def test_ctrl_c_while_the_network_trains_leaves_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def interrupt(event: SearchEvent) -> None:
        if event.message.startswith("training"):
            monkeypatch.setattr(search_sizes, "train_networks", with_a_signal)

    made = search_sizes.train_networks

    def with_a_signal(*samples: Any, **keywords: Any) -> Any:
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGINT)
        return made(*samples, **keywords)

    outcome = run_search(target_run(out), listener=interrupt)
    assert (outcome.document, outcome.made, outcome.left) == (None, 0, 16)
    assert {p.name for p in out.iterdir()} == {".lock", "config.json"}
    monkeypatch.setattr(search_run, "save_preview", lambda *a, **k: None)
    assert run_search(target_run(out)).document == load_policy(out / "policy.json")


def test_a_network_that_diverges_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: Any, **__: Any) -> Base:
        raise ProbeError("the probe's loss is nan at step 2 of 3")

    monkeypatch.setattr(search_sizes, "train_networks", diverge)
    with pytest.raises(SearchDivergedError, match=r"nan at step 2 of 3\. --recognise-steps 0 does without"):
        run_search(target_run(tmp_path / "run"))
