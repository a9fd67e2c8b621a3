"""A search that is killed anywhere ends as if it had not been."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

from policy_search import search_run, tensorboard
from policy_search.search_run import SearchEvent, run_search
from tests.search_runs import STEPS, assert_same_end, assert_scalars, steps_in, tiny

pytestmark = pytest.mark.usefixtures("no_picture")


WATCHED = ("search_run.py", "search_history.py", "tensorboard.py", "checkpoint.py", "files.py")


@dataclass
class Tracer:
    """Counts the lines that run in the files which write the folder; at line `last` the process kills itself."""

    last: int
    count: int = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not (name.endswith(WATCHED) and "policy_search" in name):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def traced(out: Path, last: int, pipe: Any) -> None:
    """In a process of its own: the run, killed at the given line; sends the number of lines if it comes to its end."""
    tracer = Tracer(last)
    config = tiny(out, checkpoint_every=2)
    preview = search_run.save_preview

    def untraced(*arguments: Any, **options: Any) -> None:
        sys.settrace(None)  # matplotlib would take ten times as long, and writes nothing but its one file
        preview(*arguments, **options)
        sys.settrace(tracer)

    search_run.save_preview = untraced
    sys.settrace(tracer)
    run_search(config)
    sys.settrace(None)
    pipe.send(tracer.count)


def killed_in_the_write(out: Path, nth: int, pipe: Any) -> None:
    """In a process of its own: the nth checkpoint is written by half, then the process kills itself."""
    write, seen = Path.write_bytes, Counter[str]()

    def half(path: Path, content: Any) -> int:
        seen["calls"] += 1
        if seen["calls"] < nth:
            return write(path, content)
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed before")

    Path.write_bytes = half  # type: ignore[method-assign, assignment]
    run_search(tiny(out))


def in_a_process(target: Any, out: Path, number: int) -> tuple[int, int | None]:
    """Exit code (-9: killed) and what was sent. The server of these processes has imported all, and never computed:
    PyTorch does not survive a fork after its first backward pass."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch._dynamo", "torch.utils.tensorboard", "policy_search.study.provenance", __name__]
    )
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(out, number, send))
    process.start()
    send.close()
    process.join(120)
    code = process.exitcode
    assert code is not None, "hangs"
    return code, receive.recv() if code == 0 else None


def size_after(out: Path, steps: int) -> int:
    """Of the checkpoint after so many steps."""

    def stop(event: SearchEvent) -> None:
        if event.done == steps and event.report is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(tiny(out), listener=stop)
    return (out / "checkpoint.pt").stat().st_size


def test_killed_at_random_lines_again_and_again_it_ends_the_same(whole: Path, tmp_path: Path) -> None:
    code, lines = in_a_process(traced, tmp_path / "counted", -1)
    assert code == 0
    assert lines is not None
    assert lines > 1000
    assert_same_end(tmp_path / "counted", whole)
    generator = np.random.default_rng(0)
    out, seen = tmp_path / "run", []
    for _ in range(16):
        # A third of the lines makes some progress, so that the kills move along the run.
        code, _ = in_a_process(traced, out, int(generator.integers(1, lines // 3)))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        seen.append(len((out / "history.jsonl").read_bytes().splitlines()) if (out / "history.jsonl").is_file() else 0)
    assert len(seen) >= 6
    assert len(set(seen)) >= 4, "killed at several steps"
    run_search(tiny(out))
    assert_same_end(out, whole)
    assert_scalars(out)


@pytest.mark.parametrize("nth", [1, 4])
def test_killed_in_the_middle_of_writing_the_checkpoint(whole: Path, tmp_path: Path, nth: int) -> None:
    out = tmp_path / "run"
    code, _ = in_a_process(killed_in_the_write, out, nth)
    assert code == -signal.SIGKILL
    (half,) = out.glob(".checkpoint.pt.*")
    # Of the checkpoint that it was to be, not of the last: that one has more in it, as the policy's optimiser keeps
    # nothing before the warm-up has ended.
    assert half.stat().st_size == size_after(tmp_path / "stopped", 4 * nth) // 2
    assert (out / "checkpoint.pt").exists() == (nth > 1)
    assert steps_in(out) == list(STEPS)[: 4 * nth]
    events: list[SearchEvent] = []
    run_search(tiny(out), listener=events.append)
    assert events[1].done == 4 * (nth - 1) + 1, "goes on from the checkpoint before"
    assert_same_end(out, whole)


def test_stopped_after_every_single_step(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each step, and each step in a search of its own; pictures are left to the last."""

    class Enough(Exception):
        pass

    def stop(event: SearchEvent) -> None:
        if event.report is not None:
            raise Enough

    monkeypatch.setattr(tensorboard.time, "sleep", lambda seconds: None)  # scalars are not looked at here
    out = tmp_path / "run"
    for number in range(len(STEPS)):
        with pytest.raises(Enough):
            run_search(tiny(out, checkpoint_every=1), listener=stop)
        assert len(steps_in(out)) == number + 1
    assert run_search(tiny(out, checkpoint_every=1)).made == 0
    assert_same_end(out, whole)


@pytest.mark.parametrize("line", ["tell", "append", "save"])
def test_a_wish_to_stop_at_any_line_of_a_step_leaves_a_checkpoint_of_that_step(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    out, times = tmp_path / "run", 0

    def then_signal(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal times
            given = call(*arguments, **named)
            times += 1
            if times == (2 if line == "save" else 6):
                signal.raise_signal(signal.SIGINT)
            return given

        return wrapped

    heard = then_signal(lambda event: None)
    if line == "append":
        monkeypatch.setattr(search_run.History, "append", then_signal(search_run.History.append))
    elif line == "save":
        monkeypatch.setattr(search_run, "save_checkpoint", then_signal(search_run.save_checkpoint))
    steps = {"tell": 6, "append": 6, "save": 8}[line]
    outcome = run_search(
        tiny(out), listener=lambda event: heard(event) if line == "tell" and event.report is not None else None
    )
    assert outcome.made == steps == len(steps_in(out))
    state = torch.load(out / "checkpoint.pt", weights_only=True)["state"]
    assert state["done"] == list(STEPS)[steps]
    run_search(tiny(out))
    assert_same_end(out, whole)
