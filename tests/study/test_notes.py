"""Notes of trials and studies: what they say, and that it is right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from policy_search.augment import baseline, load_policy
from policy_search.augment.describe import describe
from policy_search.study.notes import DataFacts, StudyFacts, TrialFacts, study_note, trial_note
from policy_search.study.policy_table import MOST_ROWS, policy_table
from policy_search.study.standing import Entry, Standing

DATA = DataFacts("demo/A172", True, "the source's val split under 12 held-back shifts")
REAL = DataFacts("A172", False, "labelled images of BV2")


def entry(number, name, values, *, baseline=False, state="complete", domains=None):
    return Entry(number, state, name, "naive" if baseline else "stacked", baseline, values, domains or {})


def stand(*entries, direction="maximize"):
    return Standing(("matched",), (direction,), entries)


SO_FAR = stand(
    entry(0, "none", (0.5,), baseline=True, domains={"blur": 0.4}), entry(1, "random_choice", (0.7,), baseline=True)
)


@pytest.mark.parametrize(
    ("direction", "against_none", "against_rival"),
    [("maximize", "0.100 better than `none` (0.500)", "0.100 worse than `random_choice` (0.700), the best naive"),
     ("minimize", "0.100 worse than `none` (0.500).", None)],
)  # fmt: skip
def test_score_is_compared_in_the_right_direction(direction, against_none, against_rival):
    so_far = Standing(("matched",), (direction,), SO_FAR.entries)
    note = trial_note(baseline("flip"), TrialFacts("flip", "naive", (0.6,)), so_far, DATA)
    assert f"**matched = 0.600**: {against_none}" in note
    if against_rival:
        assert against_rival in note
    else:  # `none` is the best naive strategy then, and is not named twice
        assert "best naive" not in note


def test_equal_scores_are_said_to_be_the_same():
    note = trial_note(baseline("flip"), TrialFacts("x", "stacked", (0.50001,)), SO_FAR, DATA)
    assert "the same as `none` (0.500)" in note


def test_the_reference_is_not_compared_with_itself():
    note = trial_note(baseline("none"), TrialFacts("none", "naive", (0.5,)), SO_FAR, DATA)
    assert "than `none`" not in note
    assert "0.200 worse than `random_choice`" in note


def test_several_metrics_are_each_compared_with_none_alone():
    so_far = Standing(
        ("affinity", "diversity"), ("maximize", "minimize"), (entry(0, "none", (0.5, 1.0), baseline=True),)
    )
    note = trial_note(baseline("flip"), TrialFacts("x", "stacked", (0.6, 1.5)), so_far, DATA)
    assert "**affinity = 0.600**: 0.100 better than `none` (0.500)." in note
    assert "**diversity = 1.500**: 0.500 worse than `none` (1.000)." in note


def test_a_trial_without_a_score_says_why():
    note = trial_note(baseline("flip"), TrialFacts("x", "stacked", None, remark="Given up half-way."), SO_FAR, DATA)
    assert "**No score.** Given up half-way." in note


def test_domains_stand_beside_none():
    facts = TrialFacts("x", "stacked", (0.6,), {"blur": 0.55, "a|b": 0.1})
    note = trial_note(baseline("flip"), facts, SO_FAR, DATA)
    assert "| blur | 0.550 | 0.400 | +0.150 |" in note
    assert "| a\\|b | 0.100 | – | – |" in note
    assert "The source's val split under 12 held-back shifts." in note


def test_synthetic_is_said_for_the_demo_culture_only():
    facts = TrialFacts("x", "stacked", (0.6,))
    assert "Synthetic" in trial_note(baseline("flip"), facts, SO_FAR, DATA)
    assert "Synthetic" not in trial_note(baseline("flip"), facts, SO_FAR, REAL)
    assert "Synthetic" in study_note(SO_FAR, StudyFacts("runs/x", 4), DATA)
    assert "Synthetic" not in study_note(SO_FAR, StudyFacts("runs/x", 4), REAL)


@pytest.mark.parametrize(("name", "pastes"), [("flip", False), ("simple_copy_paste", True)])
def test_the_quoted_code_runs_with_the_policy(name, pastes, tmp_path, monkeypatch):
    """The Python in the note, run as it stands beside the downloaded file."""
    document = baseline(name)
    note = trial_note(document, TrialFacts(name, "naive", (0.6,)), SO_FAR, DATA)
    code = re.search(r"```python\n(.*?)```", note, re.S).group(1)
    assert ("import policy_search.augment" in code) == pastes
    (tmp_path / "policy.json").write_text(json.dumps(document.to_dict()))
    monkeypatch.chdir(tmp_path)
    image = np.full((32, 32), 100, np.uint8)
    masks = np.zeros((1, 32, 32), np.uint16)
    masks[0, 4:9, 4:9] = 1
    names = {"image": image, "masks": masks, "other_image": image, "other_masks": masks}
    exec(code, names)
    assert names["out"]["image"].shape == (32, 32)


def test_pictures_are_inline_and_losses_of_files_are_told():
    facts = TrialFacts("x", "stacked", (0.6,), pictures={"Losses": "/artifacts/1/2/ab"}, missing="disk full")
    note = trial_note(baseline("flip"), facts, SO_FAR, DATA)
    assert "![Losses](/artifacts/1/2/ab)" in note
    assert "**Not everything could be kept:** disk full" in note


def test_a_small_policy_is_shown_whole():
    document = baseline("stacked_p0.5")
    rows = [line for line in policy_table(document) if line.startswith("|")][2:]
    assert len(rows) == len(describe(document.transform))
    flip = next(row for row in rows if "HorizontalFlip" in row)
    assert flip.split("|")[2].strip().replace("\N{NO-BREAK SPACE}", " ") == "25 %"  # half of the flips, gate 0.5


def test_a_large_policy_is_summed_up():
    def branch(index):
        classes = ["HorizontalFlip", "VerticalFlip", "Transpose", "InvertImg", "Equalize"]
        return {"__class_fullname__": "Sequential", "p": 1.0, "transforms": [
            {"__class_fullname__": classes[(index + k) % 5], "p": 0.5} for k in range(8)]}  # fmt: skip

    document = baseline("flip")
    tree = {"__class_fullname__": "OneOf", "p": 1.0, "transforms": [branch(i) for i in range(20)]}
    object.__setattr__(document, "transform", {"__class_fullname__": "Compose", "p": 1.0, "transforms": [tree]})
    lines = policy_table(document)
    rows = [line for line in lines if line.startswith("|")][2:]
    assert len(rows) == MOST_ROWS
    assert "Summed up from 160 branches" in lines[-1]
    assert "15 rarer rows are left out" in lines[-1]  # 8 steps of 5 kinds each


def test_the_study_note_names_leader_margin_and_progress():
    standing = stand(
        *SO_FAR.entries, entry(2, "stacked_t002", (0.75,)), entry(3, "x", None, state="pruned"),
        entry(4, "y", None, state="fail"), entry(5, "z", None, state="running"),
    )  # fmt: skip
    note = study_note(standing, StudyFacts("runs/my run", 20, trials_url="/t?n="), REAL)
    assert "**Best so far: `stacked_t002`, matched = 0.750**, 0.050 better than `random_choice` (0.700)" in note
    assert "| [2](/t?n=2) | stacked_t002 | stacked | 0.750 |" in note
    assert "Progress: 3 of 20 trials complete, 1 running, 1 given up early, 1 failed." in note
    assert "The second round scores" in note
    assert "detect finetune --policy 'runs/my run/best.json' --data A172" in note


def test_a_leading_baseline_is_not_sold_as_a_discovery():
    note = study_note(stand(*SO_FAR.entries, entry(2, "s", (0.6,))), StudyFacts("r", 4), REAL)
    assert "`random_choice`, matched = 0.700**, a naive strategy: no learnt policy is ahead of it." in note


def test_the_second_rounds_verdict_takes_the_place_of_the_warning():
    note = study_note(SO_FAR, StudyFacts("r", 2, verdict="x beats y."), REAL)
    assert "**Second round:** x beats y." in note
    assert "Leader of the first round" in note
    assert "The winner is in `r/best.json`." in note
    assert "Progress: 2 of 2 trials complete." in note
    assert "fresh seeds, and decides" not in note


def test_several_metrics_show_the_pareto_front_in_place_of_one_best():
    entries = [entry(0, "a", (0.9, 0.1)), entry(1, "b", (0.1, 0.9)), entry(2, "beaten", (0.05, 0.8))]
    note = study_note(Standing(("affinity", "diversity"), ("maximize",) * 2, tuple(entries)), StudyFacts("r", 4), REAL)
    assert "Pareto front so far: 2 policies" in note
    assert "| 0 | a | stacked | 0.900 | 0.100 |" in note
    assert "beaten" not in note
    assert "better: high affinity, high diversity" in note


def test_nothing_is_said_of_a_second_round_where_there_is_none():
    note = study_note(SO_FAR, StudyFacts("r", 2, second_round=False), REAL)
    assert "second round" not in note
    assert "best.json" not in note


def test_an_empty_study_has_a_note():
    assert "No policy has a score yet." in study_note(stand(), StudyFacts("r", 4), REAL)
    two = Standing(("a", "b"), ("maximize",) * 2, ())
    assert "No policy has a score yet." in study_note(two, StudyFacts("r", 4), REAL)


def test_best_json_of_the_repository_fits(request):
    """The largest policy that is shipped."""
    document = load_policy(Path(request.config.rootpath) / "policies" / "best.json")
    assert len([line for line in policy_table(document) if line.startswith("|")]) <= MOST_ROWS + 2
