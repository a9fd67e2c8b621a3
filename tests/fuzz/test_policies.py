"""Damaged policy files: each gives a policy or a sentence, and whatever loads can be shown, applied and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import settings

from policy_search.augment import PolicyError, load_policy
from tests.fuzz.policies import OTHERS, OURS, check_policy
from tests.fuzz.targets import FIXED, TARGETS, run


@pytest.mark.parametrize("content", [*OURS, *OTHERS], ids=lambda c: c.get("policy_search", {}).get("name", "other"))
def test_the_corpus_itself_loads(tmp_path: Path, content: dict) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(content))
    assert check_policy(tmp_path / "policy.json") is not None


def test_a_damaged_policy_is_a_policy_or_an_error(tmp_path: Path) -> None:
    run(TARGETS["policies"], tmp_path, settings(FIXED, max_examples=120))


def test_a_damaged_policy_of_autoalbument_is_converted_or_an_error(tmp_path: Path) -> None:
    run(TARGETS["conversions"], tmp_path, settings(FIXED, max_examples=50))


def test_a_policy_cut_off_anywhere_is_an_error(tmp_path: Path) -> None:
    data = json.dumps(OTHERS[0]).encode()
    for size in range(len(data)):
        (tmp_path / "cut.json").write_bytes(data[:size])
        with pytest.raises(PolicyError, match=r"cut\.json"):
            load_policy(tmp_path / "cut.json")
