"""The view of a running matrix, as text of a terminal of fixed width."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from detection.matrices.progress import FAILURES, RUNNING, MatrixProgress
from detection.tasks import Finished, Task


class Seen:
    """A view with a clock and a terminal of our own."""

    def __init__(self, total: int, width: int = 80, place: str = "") -> None:
        self.now = 0.0
        self.file = io.StringIO()
        self.console = Console(file=self.file, width=width, height=40, force_terminal=True, color_system=None)
        self.view = MatrixProgress(
            self.console, total, [task(i).name for i in range(total)], clock=lambda: self.now, place=lambda t: place
        )

    def lines(self) -> list[str]:
        with self.console.capture() as capture:
            self.console.print(self.view)
        return [line.rstrip() for line in capture.get().splitlines()]


def task(number: int, name: str = "") -> Task:
    return Task(name or f"flip, demo/A172, seed {number}", (), (), Path(f"out{number}"), ())


def ok(seconds: float) -> Finished:
    return Finished(True, "", seconds, 1, "here")


def bad(message: str, seconds: float = 1) -> Finished:
    return Finished(False, message, seconds, 1, "here")


def test_counts_time_and_place_of_what_runs() -> None:
    seen = Seen(4, place="node-7")
    assert seen.lines()[0].endswith("0/4 done, 0 running")
    seen.view.started(task(0))
    seen.now = 30
    seen.view.started(task(1))
    seen.now = 75
    top, *tasks = seen.lines()
    assert top.endswith("0/4 done, 2 running")  # nothing tells yet how long it takes
    assert tasks[0].split() == ["flip,", "demo/A172,", "seed", "0", "75", "s", "node-7"]
    assert tasks[1].split() == ["flip,", "demo/A172,", "seed", "1", "45", "s", "node-7"]
    seen.view.finished(task(0), ok(75))
    assert seen.lines()[0].endswith("1/4 done, 1 running, about 3 min left")


@pytest.mark.parametrize(
    ("running", "elapsed", "left"),
    [
        (1, 0, 100 * 8),  # one after the other
        (2, 0, 100 * 8 / 2),
        (4, 50, (4 * 100 + 4 * 50) / 4),
        (4, 500, 4 * 100 / 4),  # late ones count as nearly done
        (8, 30, 70),
    ],
)
def test_time_left_from_the_mean_and_how_many_run(running: int, elapsed: float, left: float) -> None:
    seen = Seen(11)
    for number, seconds in enumerate((80, 120)):
        seen.view.started(task(number))
        seen.view.finished(task(number), ok(seconds))
    seen.view.started(task(2))
    seen.view.finished(task(2), bad("soon over", 0.1))  # says nothing of the pace
    assert seen.view.left() is None
    for number in range(3, 3 + running):
        seen.view.started(task(number))
    seen.now += elapsed
    assert seen.view.left() == pytest.approx(left)


def test_the_last_of_several_is_not_shared_out() -> None:
    seen = Seen(3)
    seen.view.finished(task(0), ok(100))
    seen.view.started(task(1))
    seen.now = 95
    seen.view.started(task(2))
    assert seen.view.left() == pytest.approx(100)
    seen.view.finished(task(1), ok(100))
    seen.view.finished(task(2), ok(100))
    assert seen.view.left() == 0
    assert seen.lines()[0].endswith("3/3 done, 0 running")


def test_the_last_failures_in_a_line_each() -> None:
    seen = Seen(9)
    for number in range(FAILURES + 1):
        name = task(number).name
        seen.view.finished(task(number), bad(f"{name} ended with exit code {number}; the end of {'x' * 90}:\nerror"))
    top, *failed = seen.lines()
    assert top.endswith(f"0/9 done, {FAILURES + 1} failed, 0 running")
    assert [line[:55] for line in failed] == [
        f"failed  flip, demo/A172, seed {i}: ended with exit code {i}" for i in range(1, FAILURES + 1)
    ]
    assert all(len(line) == 80 and line.endswith("…") for line in failed)


def test_names_are_text_and_give_way() -> None:
    seen = Seen(3, width=60, place="a-machine-with-a-very-long-name.example.org")
    seen.view.started(task(0, "[red]none[/red], demo/A172, seed 0 " + "long " * 20))
    seen.now = 7200
    (_, line) = seen.lines()
    assert line.startswith("  [red]none[/red], demo")
    assert "… " in line
    assert line.endswith("…  2 h 0 min  a-machine-with-a-ve…")
    assert len(line) <= 60


def test_more_than_fit_are_counted() -> None:
    seen = Seen(40)
    for number in range(RUNNING + 5):
        seen.view.started(task(number))
    assert len(seen.lines()) == 1 + RUNNING + 1
    assert seen.lines()[-1].strip() == "and 5 more"


def test_what_stays_on_the_terminal_at_the_end() -> None:
    seen = Seen(2)
    with seen.view as view:
        view.started(task(0))
        view.finished(task(0), ok(5))
        view.started(task(1))
        view.finished(task(1), bad("flip, demo/A172, seed 1 was killed (SIGKILL) 3 times; the end of log.txt:\n"))
    last = seen.file.getvalue().split("\x1b[2K")[-1]
    assert "1/2 done, 1 failed, 0 running" in last
    assert "failed  flip, demo/A172, seed 1: was killed (SIGKILL) 3 times" in last


def test_interrupted_tasks_are_no_longer_shown_as_running() -> None:
    seen = Seen(2)

    def stop() -> None:
        with seen.view as view:
            view.started(task(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert "0/2 done, 0 running" in seen.file.getvalue().split("\x1b[2K")[-1]
