"""The command `policy-search search` as a user meets it: signals, exit codes, lines, and two at once in one folder."""

from __future__ import annotations

import io
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from policy_search import search_run
from policy_search.relaxed.search import Search, StepReport
from policy_search.search_progress import SearchBar
from policy_search.search_run import SearchEvent
from tests.conftest import ROOT
from tests.test_cli import run

__all__ = ["run"]  # a fixture

OPTIONS = [
    "search", "--data", "demo/A172", "--target", "BT474,MCF7", "--steps", "60", "--sub-policies", "2", "--crop", "32",
    "--batch", "4", "--max-images", "2", "--checkpoint-every", "7", "--seed", "1",
    "--operations", "rotate,scale,brightness,gaussian_noise", "--recognise-steps", "5",
]  # fmt: skip


def start(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "policy_search.cli", *OPTIONS, "--out", str(out)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def lines(out: Path) -> list[dict[str, Any]]:
    file = out / "history.jsonl"
    rows = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(row) for row in rows]


def wait_for(process: subprocess.Popen[str], out: Path, count: int) -> None:
    """Until the history has `count` lines; a read in the middle of a rewrite finds fewer and tries again."""
    end = time.monotonic() + 120
    while not (out / "history.jsonl").is_file() or (out / "history.jsonl").read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no progress"
        time.sleep(0.005)


def test_ctrl_c_termination_and_kill_leave_a_run_that_ends_the_same(run, tmp_path: Path) -> None:
    """One folder: Ctrl-C, then SIGTERM with a second process that wants in, then kill -9, then to the end."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    code, printed, err = run(*OPTIONS, "--out", whole)
    assert (code, err) == (0, "")
    assert f"wrote {whole / 'policy.json'}" in printed

    reached = 0
    for number, count in ((signal.SIGINT, 10), (signal.SIGTERM, 40)):
        process = start(out)
        wait_for(process, out, count)
        if number == signal.SIGTERM:
            process.send_signal(signal.SIGSTOP)  # so that it is surely there
            code, _, err = run(*OPTIONS, "--out", out)
            assert code == 2
            assert err == f"error: another run is working in {out}: wait for it, or choose another --out\n"
            process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        printed, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err == ""
        state = torch.load(out / "checkpoint.pt", weights_only=True)["state"]
        assert [row["step"] for row in lines(out)] == list(range(state["done"]))
        assert len(lines(out)) >= count, "nothing is lost"
        stopped, again = printed.splitlines()[-2:]
        assert stopped == f"stopped with {60 - state['done']} steps left; this goes on:"
        assert again == shlex.join(["policy-search", *OPTIONS, "--out", str(out)])
        if reached:
            assert f"going on after {reached} of 60 steps" in printed
        reached = len(lines(out))

    process = start(out)
    wait_for(process, out, 50)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert torch.load(out / "checkpoint.pt", weights_only=True)["state"]["done"] % 7 == 0

    code, _, err = run(*OPTIONS, "--out", out)
    assert (code, err) == (0, "")
    for name in ("policy.json", "history.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    code, printed, _ = run(*OPTIONS, "--out", out)
    assert (code, printed) == (0, f"finished already: {out / 'policy.json'}\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--seed", "2"], "seed was 1, now 2"),
        (["--steps", "0"], "--steps: expected a number of at least 1, found 0"),
        (["--crop", "33"], "--crop: expected a multiple of 2, found 33"),
        (["--operations", "sclae"], "unknown operation 'sclae'"),
        (["--target", "A172"], "A172 is the source type"),
        (["--data", "demo/A127"], "Did you mean A172"),
        (["--device", "cuda"], "finds no CUDA device"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    run, tmp_path: Path, change: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if change[0] == "--seed":
        (tmp_path / "config.json").write_text(json.dumps({"command": "search", "data": "demo/A172", "target": ["BT474",
            "MCF7"], "steps": 60, "seed": 1}))  # fmt: skip
    code, _, err = run(*OPTIONS, *change, "--out", tmp_path)
    assert code == 2
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_damaged_checkpoint_is_one_sentence_too(run, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half of a file")
    code, _, err = run(*OPTIONS, "--out", tmp_path)
    assert code == 2
    assert f"{tmp_path / 'checkpoint.pt'} is damaged" in err
    assert err.count("\n") == 1


def test_nan_and_a_dead_critic_name_step_and_losses(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(value: float) -> Any:
        def make(*arguments: Any, **keywords: Any) -> Search:
            search = Search(*arguments, **keywords)
            with torch.no_grad():
                for parameter in search.critic.parameters():
                    parameter.fill_(value)
            return search

        return make

    for value, words in (
        (float("nan"), "diverged at step -60: critic loss = nan, distance = nan"),
        (0.0, "diverged at step -41: the critic has collapsed"),
    ):
        monkeypatch.setattr(search_run, "Search", spoilt(value))
        out = tmp_path / str(value)
        # Source mode: target mode's critic is known in closed form and cannot die.
        without = [option for option in OPTIONS if option not in ("--target", "BT474,MCF7")]
        code, _, err = run(*without, "--out", out)
        assert code == 1
        assert err.startswith(f"error: the search {words}")
        assert "distance = " in err
        assert err.count("\n") == 1
        assert not (out / "policy.json").exists()


def events() -> list[SearchEvent]:
    """A search of 10 steps after 10 of warm-up that was continued at its 5th."""
    found = [SearchEvent(5, 10, 10, "a message")]
    for done in range(6, 21):
        report = StepReport(done - 11, 0.1, 0.25, 0.1, 0.2, 1.5 if done > 10 else 0.0, 1.0, {})
        found.append(SearchEvent(done, 10, 10, report=report))
    return found


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_counts_and_estimates(terminal: bool) -> None:
    """Two seconds a step, of which five were made before; what comes before the first step is no part of its pace."""
    now = {"time": 100.0}
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80)
    with SearchBar(console, clock=lambda: now["time"]) as bar:
        bar(SearchEvent(0, 10, 10, "training networks"))
        now["time"] += 500.0
        for event in events():
            bar(event)
            now["time"] += 2.0
    printed = stream.getvalue()
    assert "a message" in printed
    if terminal:
        assert "20/20" in printed
    else:
        rows = printed.splitlines()[2:]
        assert [row.split()[:2] for row in rows[:3]] == [["warm-up", "6/20"], ["warm-up", "8/20"], ["warm-up", "10/20"]]
        assert [row.split()[1] for row in rows] == [f"{n}/20" for n in range(6, 21, 2)]
        assert [row.split("left ")[1] for row in rows] == [f"0:00:{2 * n:02d}" for n in range(14, -1, -2)]
        assert "spread  1.50" in rows[-1]
        assert "spread     –" in rows[0]
        assert max(map(len, rows)) <= 80


def test_help_fits_and_has_an_example(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, printed, _ = run("search", "--help")
    assert code == 0
    assert "Example: policy-search search --data" in printed
    assert max(map(len, printed.splitlines())) <= 80
