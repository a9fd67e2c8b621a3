"""A search whose critic has collapsed stops, also where that falls between two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from policy_search import search_run
from policy_search.relaxed.search import Search, SearchDivergedError
from policy_search.search_run import SearchEvent, run_search
from tests.search_runs import STEPS, WARMUP, steps_in, tiny

pytestmark = pytest.mark.usefixtures("no_picture")


def test_a_collapsed_critic_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the collapse falls between two runs: the watch remembers what the history says."""

    def dead(*arguments: Any, **keywords: Any) -> Search:
        search = Search(*arguments, **keywords)
        with torch.no_grad():
            for parameter in search.critic.parameters():
                parameter.zero_()
        return search

    def stop(event: SearchEvent) -> None:
        if event.done == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(search_run, "Search", dead)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_search(tiny(out), listener=stop)
    with pytest.raises(
        SearchDivergedError, match=rf"at step {19 - WARMUP}: the critic has collapsed.*distance = 0, penalty = "
    ):
        run_search(tiny(out))
    assert steps_in(out) == list(STEPS)[:20]
    assert not (out / "policy.json").exists()
