"""The watch: collapsed critics are named with step and losses, healthy searches are left alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import pytest
import torch

from policy_search.relaxed.crops import CropSampler, Pair
from policy_search.relaxed.search import Search, SearchDivergedError, SearchSettings, StepReport
from policy_search.relaxed.threads import one_thread
from policy_search.relaxed.watch import Watch
from tests.relaxed.textures import culture

SMALL = SearchSettings(sub_policies=2, steps=60, warmup=30, batch=4, crop=32, margin=8)


@pytest.fixture(autouse=True)
def single_thread() -> object:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def source() -> list[Pair]:
    return [culture(seed) for seed in range(4)]


def report(step: int, *, distance: float = 0.5, penalty: float = 0.1, **others: float) -> StepReport:
    values = {"critic_loss": 0.2, "policy_loss": 0.3, "spread": 1.5, "multiplier": 1.0, **others}
    return StepReport(step, distance=distance, penalty=penalty, strengths={"pose": 0.4}, **values)


def feed(watch: Watch, reports: Iterable[StepReport]) -> tuple[StepReport, str]:
    """The report at which it raises, and what it says."""
    for each in reports:
        try:
            watch(each)
        except SearchDivergedError as error:
            return each, str(error)
    raise AssertionError("never raised")


def run(search: Search) -> Iterator[StepReport]:
    while search.done < search.settings.steps:
        yield search.step()


@pytest.mark.parametrize(
    ("bad", "steps", "words"),
    [
        ({"distance": 0.0, "penalty": 0.37}, 20, "it gives every pair the same score for 20 steps"),
        ({"distance": 0.4, "penalty": 0.99}, 20, "its gradient is zero for 20 steps"),
        # 4 * 5050 / 20 is the first mean above 1000.
        ({"distance": -5050.0, "penalty": 0.2}, 4, "mean distance 1.01e+03"),
        ({"distance": 0.4, "penalty": 5050.0}, 4, "mean penalty 1.01e+03"),
    ],
)
def test_a_collapse_is_named_once_it_has_lasted(bad: dict[str, float], steps: int, words: str) -> None:
    healthy = [report(step, distance=0.1 * math.sin(step)) for step in range(-30, 10)]
    collapsed = [report(step, **bad) for step in range(10, 60)]
    last, message = feed(Watch(), healthy + collapsed)
    assert last.step == 10 + steps - 1
    for expected in (
        words, f"at step {last.step}:", f"distance = {last.distance:g}", f"penalty = {last.penalty:g}",
        "critic loss = 0.2", "policy loss = 0.3", "spread = 1.5", "multiplier = 1",
    ):  # fmt: skip
        assert expected in message


def test_a_short_spell_is_not_a_collapse() -> None:
    watch = Watch()
    for step in range(200):
        spell = step % 20 != 19
        watch(report(step, distance=0.0 if spell else 0.3, penalty=1.0 if spell else 0.1))


@pytest.mark.parametrize("field", ["critic_loss", "distance", "penalty", "policy_loss", "spread", "multiplier"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stops_at_once(field: str, value: float) -> None:
    last, message = feed(Watch(), [report(0), report(1, **{field: value})])
    assert last.step == 1
    assert f"{field.replace('_', ' ')} = {value}" in message


def test_a_strength_that_is_not_finite_and_a_multiplier_without_bounds_stop_too() -> None:
    with pytest.raises(SearchDivergedError, match="step 7: a number is not finite"):
        Watch()(report(7)._replace(strengths={"pose": math.nan}))
    with pytest.raises(SearchDivergedError, match=r"step 7: the multiplier grew to 2e\+12"):
        Watch()(report(7, multiplier=2e12))


@pytest.mark.parametrize("matching", [False, True])
@pytest.mark.parametrize("when", [0, 45])
def test_a_dead_critic_is_noticed_within_the_window(source: list[Pair], matching: bool, when: int) -> None:
    """All weights zero: no gradient ever moves them again, and every loss stays finite."""
    search = Search(CropSampler(source), CropSampler(source) if matching else None, SMALL, seed=0)
    watch = Watch()
    for _ in range(when):
        watch(search.step())
    with torch.no_grad():
        for parameter in search.critic.parameters():
            parameter.zero_()
    # Momentum would carry the weights away from zero for some steps.
    search.critic_optimiser.state.clear()
    died = search.done
    last, message = feed(watch, run(search))
    assert "the critic has collapsed" in message
    assert last.step == died + 19


@pytest.mark.parametrize("matching", [False, True])
def test_a_healthy_search_is_left_alone(source: list[Pair], matching: bool) -> None:
    """Also where there is nothing to tell apart (matching a data set with itself), and far from the bounds."""
    search = Search(CropSampler(source), CropSampler(source) if matching else None, SMALL, seed=0)
    watch, reports = Watch(), []
    for each in run(search):
        reports.append(each)
        watch(each)
    assert len(reports) == 90
    for start in range(len(reports) - 20):
        window = reports[start : start + 20]
        assert max(abs(r.distance) for r in window) > 100 * 1e-4
        assert max(abs(r.penalty - 1) for r in window) > 10 * 0.02
        assert max(abs(r.distance) for r in window) < 1e3 / 10
