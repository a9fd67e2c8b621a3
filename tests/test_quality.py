"""The quality experiment at tiny settings: every row, resuming, the tables against figures made by hand."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import albumentations as A
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
import quality
import quality_policies
from quality import Plan, cell_file, remove, run_seed
from quality_data import load_culture
from quality_policies import ROWS, Searches
from quality_report import best_naive, difference, over_types, report, table

from policy_search.augment import PolicyDocument, load_policy
from policy_search.cells import ImageRecord
from policy_search.cells.errors import InputError
from policy_search.cells.livecell import FileReader
from policy_search.relaxed import SearchSettings
from policy_search.relaxed.target import TargetSettings
from policy_search.study.probe import ProbeScore, ProbeSettings
from tests.conftest import write_livecell

PROBE = ProbeSettings(base_steps=4, steps=3, batch=2, crop=32, width=4)
SEARCHES = Searches(
    SearchSettings(steps=2, warmup=1, batch=2, crop=32, margin=8, sub_policies=2),
    TargetSettings(steps=32, batch=2, crop=32, margin=8, sub_policies=2),
    300.0,
    recognise_steps=4,
)
PEER_FILE = Path(__file__).resolve().parent / "augment" / "data" / "autoalbument_policy.json"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source, one unseen type with labels, and one that has none to score on."""
    plan = {
        "A172": {"train": 2, "val": 1, "test": 1},
        "BV2": {"train": 2, "val": 1, "test": 1},
        "SKOV3": {"train": 0, "val": 0, "test": 1},
    }
    return write_livecell(tmp_path_factory.mktemp("livecell"), plan)


@pytest.fixture(scope="module")
def plan(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    peer = tmp_path_factory.mktemp("peer")
    shutil.copyfile(PEER_FILE, peer / "livecell.json")
    (peer / "livecell.facts.json").write_text(json.dumps({"cpu_s": 12.5}))
    return Plan(tmp_path_factory.mktemp("out"), root, None, peer, SEARCHES, ROWS, PROBE)


@pytest.fixture(scope="module")
def scored(plan: Plan) -> list[dict[str, object]]:
    """Every row at one seed."""
    run_seed(plan, "livecell", 0)
    return quality.cells(plan.out, ("livecell",), range(1))


def compose(*transforms: A.BasicTransform | A.BaseCompose) -> PolicyDocument:
    return PolicyDocument.from_compose(A.Compose(list(transforms)))


def test_no_test_image_is_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, ImageRecord]] = []
    for name in ("image", "instances"):
        original = getattr(FileReader, name)

        def wrapped(self, record, original=original, name=name):  # type: ignore[no-untyped-def]
            opened.append((name, record))
            return original(self, record)

        monkeypatch.setattr(FileReader, name, wrapped)
    culture = load_culture("livecell", root, root)
    assert {record.split for _, record in opened} == {"train", "val"}
    assert len(culture.study.train) == 2
    assert {d.name: len(d.samples) for d in culture.study.domains} == {"BV2": 3, "Usiigaci": 5}  # 3 of 4, 2 of 2
    assert {name: len(images) for name, images in culture.targets.items()} == {"BV2": 2, "Usiigaci": 4}


def test_every_row_is_scored(scored: list[dict[str, object]]) -> None:
    assert [cell["policy"] for cell in scored] == list(ROWS)
    assert all(set(cell["ap50"]) == set(cell["matched"]) == {"BV2"} for cell in scored)  # type: ignore[call-overload]
    spent = {cell["policy"]: cell["search_cpu_s"] for cell in scored}
    assert spent["none"] == spent["trivial_augment"] == 0
    assert spent["autoalbument_searched"] == spent["autoalbument_emitted"] == 12.5
    assert spent["ours_target_each"] == spent["ours_target"] > spent["ours_size_each"] > 0  # type: ignore[operator]
    hashes = [cell["content_hash"] for cell in scored]
    assert len(set(hashes)) == len(ROWS)


def test_a_second_start_repeats_nothing_but_what_is_asked_for(
    plan: Plan, scored: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {row: cell_file(plan.out, "livecell", row, 0) for row in ROWS}
    before = {row: os.stat(file).st_ino for row, file in files.items()}
    searched = []
    original = quality_policies.search_target
    monkeypatch.setattr(quality_policies, "search_target", lambda *a, **k: searched.append(1) or original(*a, **k))
    run_seed(plan, "livecell", 0)
    assert {row: os.stat(file).st_ino for row, file in files.items()} == before
    assert searched == []
    remove(plan.out, ["ours_target"])
    built = ["ours_target", "ours_target_each", "ours_size_each"]
    assert [row for row in ROWS if not files[row].exists()] == built
    run_seed(plan, "livecell", 0)
    assert searched == [1]
    again = quality.cells(plan.out, ("livecell",), range(1))
    assert [c["ap50"] for c in again] == [c["ap50"] for c in scored]


def test_a_policy_a_type_is_scored_on_its_type_alone(plan: Plan, scored: list[dict[str, object]]) -> None:
    """With one type the mixture has one branch: the same policy by another path, so the same draws of an image."""
    alone = load_policy(plan.out / "policies" / "livecell" / "part_target_BV2-0.json")
    culture = load_culture("livecell", plan.root, None)
    (cell,) = (c for c in scored if c["policy"] == "ours_target_each")
    assert cell["content_hash"] == f"BV2:{alone.content_hash}"
    expected = quality.ProbeObjective(culture.study, PROBE).probe(alone, seed=0)
    assert cell["ap50"] == dict(expected.ap50)


def test_size_alone_is_the_policy_without_what_was_matched(plan: Plan, scored: list[dict[str, object]]) -> None:
    """A size that the tiny network would never find, written into the searched policy's provenance."""
    for size, scalings in ((1.0, []), (0.5, [(0.45, 0.55)])):
        alone = quality_policies._size_alone(size, 128).compose()
        kinds = [type(t).__name__ for t in alone.transforms]
        assert kinds == ["OneOf", *["Affine"] * len(scalings), "Sequential"]
        assert [t.scale["x"] for t in alone.transforms if isinstance(t, A.Affine)] == [
            pytest.approx(s) for s in scalings
        ]
        assert alone.transforms[-1].p == 0
    file = plan.out / "policies" / "livecell" / "part_target_BV2-0.json"
    searched = load_policy(file)
    facts = searched.provenance.model_dump()
    (cell,) = (c for c in scored if c["policy"] == "ours_size_each")
    assert cell["content_hash"] == f"BV2:{quality_policies._size_alone(facts['size'], facts['fill']).content_hash}"
    searched.with_provenance(size=0.5).save(file)
    culture = load_culture("livecell", plan.root, None)
    found = quality_policies.policy("ours_size_each", culture, seed=0, searches=SEARCHES, folder=file.parent, peer=None)
    searched.save(file)
    assert found is not None
    assert found.by_type is not None
    assert found.by_type["BV2"].content_hash == quality_policies._size_alone(0.5, facts["fill"]).content_hash


def test_each_domain_is_trained_for_apart(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own policy, scored on it alone, from the common start. (Three steps of training score 0 everywhere.)"""
    objective = quality.ProbeObjective(load_culture("livecell", plan.root, plan.root).study, PROBE)
    policies = {"BV2": quality_policies.baseline("flip"), "Usiigaci": quality_policies.baseline("crop")}
    objective.prepare(5)
    bases, seen = objective._bases, []

    def probe(self: quality.ProbeObjective, document: PolicyDocument, *, seed: int) -> ProbeScore:
        assert self._bases is bases
        assert list(bases) == [seed]
        names = [domain.name for domain in self.data.domains]
        seen.append((names, document.content_hash, seed))
        return ProbeScore(0.5, dict.fromkeys(names, 0.1 * len(seen)), 0.0, dict.fromkeys(names, 0.2 * len(seen)))

    monkeypatch.setattr(quality.ProbeObjective, "probe", probe)
    ap50, matched = quality.scores(objective, quality_policies.Found(baseline_none(), 0.0, policies), 5)
    assert seen == [([name], policy.content_hash, 5) for name, policy in policies.items()]
    assert ap50 == {"BV2": 0.2, "Usiigaci": 0.4}
    assert matched == {"BV2": 0.1, "Usiigaci": 0.2}


def baseline_none() -> PolicyDocument:
    """Stands for the mixture, which must not be trained with."""
    return quality_policies.baseline("none")


def test_budget_is_kept(root: Path, tmp_path: Path) -> None:
    small = Plan(tmp_path, root, None, None, Searches(SEARCHES.source, SEARCHES.target, 0.0), ("ours_source",), PROBE)
    with pytest.raises(InputError, match="more than --budget 0 CPU seconds"):
        run_seed(small, "livecell", 0)
    assert not list(tmp_path.rglob("*.json"))


CELLS = [
    {"policy": policy, "seed": seed, "ap50": {"x": value, "y": value + 0.2}, "matched": {"x": 0.1, "y": 0.2},
     "data": "demo", "search_cpu_s": 0.0 if policy != "ours_target" else 40.0 + seed, "probe_cpu_s": 9.0}
    for policy, values in {
        "none": (0.10, 0.14), "flip": (0.20, 0.26), "crop": (0.15, 0.15), "ours_target": (0.30, 0.42)
    }.items()
    for seed, value in enumerate(values)
]  # fmt: skip


def test_differences_are_paired() -> None:
    scores = table(CELLS, "ap50")
    assert best_naive(scores) == "flip"
    ours, none = over_types(scores["ours_target"]), over_types(scores["none"])
    assert ours == pytest.approx({0: 0.40, 1: 0.52})
    mean, low, high = difference(ours, none)  # type: ignore[misc]
    # Differences 0.20 and 0.28: the t quantile at one degree of freedom is 12.706.
    assert (mean, low, high) == pytest.approx((0.24, 0.24 - 12.7062 * 0.04, 0.24 + 12.7062 * 0.04), abs=1e-4)
    assert difference(ours, {0: 0.1}) is None


def test_the_tables() -> None:
    facts = {
        "date": "2026-01-01", "commit": "abc", "command": "c", "versions": {"torch": "2"}, "budget_cpu_s": 300.0,
        "probe": {"base_steps": 300, "steps": 120},
        "cells": [*CELLS, {"data": "demo", "policy": "stacked_p0.5", "seed": 1, "error": "the loss is nan"}],
        "data": {
            "demo": {"source": "demo/A172", "synthetic": True, "train_images": 18, "unseen": {"x": 3, "y": 4},
                     "cells": {"x": 30, "y": 40}, "target_images": {"x": 5, "y": 6}, "left_out": ["z"]},
        },
    }  # fmt: skip
    text = report(facts)
    assert "demo/A172: synthetic cells" in text
    assert "Without a labelled train or val image: z." in text
    assert "| none | 2 | 0.220 | – | -0.110 [-0.237, +0.017] | 0.150 | 0.0 | 9.0 |" in text
    assert (
        "| ours_target | 2 | 0.460 | +0.240 [-0.268, +0.748] | +0.130 [-0.251, +0.511] | 0.150 | 40.5 | 9.0 |" in text
    )
    assert "| AutoAlbument | not run |" in text
    assert "Failed: stacked_p0.5, seed 1: the loss is nan" in text
    assert "| flip (best naive) | 0.230 | 0.430 |" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "1"], "no interval over one"),
        (["--data", "livecell"], "needs LIVECell's folder"),
        (["--again", "ours"], "expected one of none"),
        (["--peer-policies", "nowhere"], "demo.json"),
    ],
)
def test_bad_input(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("LIVECELL_ROOT", raising=False)
    with pytest.raises(SystemExit) as stopped:
        quality.main([*arguments, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
