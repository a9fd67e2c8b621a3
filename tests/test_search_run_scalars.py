"""The scalars of a search: TensorBoard sees every step once, whatever happened on the way."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policy_search.search_run import SearchEvent, run_search
from tests.search_runs import STEPS, assert_scalars, steps_in, tiny

pytestmark = pytest.mark.usefixtures("no_picture")


def test_scalars_are_the_history(whole: Path) -> None:
    assert steps_in(whole) == list(STEPS)
    assert_scalars(whole)


def test_a_tensorboard_that_is_open_sees_every_step_once(tmp_path: Path) -> None:
    """Steps after the last checkpoint were on the screen, are lost with the process and come again."""

    def stop(event: SearchEvent) -> None:
        if event.done == len(STEPS) - 4:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny(out), listener=stop)
    reader = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    assert [event.step for event in reader.Scalars("critic/distance")] == list(STEPS)[:-4]
    run_search(tiny(out))
    reader.Reload()
    assert [event.step for event in reader.Scalars("critic/distance")] == list(STEPS)
    assert_scalars(out)


def test_scalars_are_whole_after_the_clock_was_set_back(tmp_path: Path) -> None:
    def stop(event: SearchEvent) -> None:
        if event.done == 10:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny(out), listener=stop)
    (events,) = (out / "tensorboard").iterdir()
    events.rename(events.with_name(f"events.out.tfevents.{int(time.time()) + 3600}.host.1.0"))
    run_search(tiny(out))
    assert_scalars(out)


def test_without_tensorboard_it_says_so_and_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    events: list[SearchEvent] = []
    out = tmp_path / "run"
    run_search(tiny(out), listener=events.append)
    messages = [event.message for event in events if event.message]
    assert sum("pip install tensorboard" in message for message in messages) == 1
    assert not (out / "tensorboard").exists()
    assert (out / "policy.json").read_bytes() == (whole / "policy.json").read_bytes()
