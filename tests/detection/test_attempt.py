"""One attempt at a task: its folder, its command, and what becomes of both when something is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from detection import attempt
from detection.attempt import Order, order_of, perform
from detection.tasks import Task

COUNT = (
    "import os, pathlib, sys; out = pathlib.Path(sys.argv[1]); n = len(list(out.glob('n*'))); (out / f'n{n}').touch()\n"
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of all tasks' folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"detect-tasks-{os.getuid()}"


def order(code: str, *outputs: str, program: str = sys.executable, digests: tuple[str, ...] = ()) -> Order:
    inputs = tuple(Path(f"/elsewhere/{i}.bin") for i in range(len(digests)))
    words = (program, "-c", code, "{out}", *(f"{{{i}}}" for i in range(len(inputs))))
    return order_of(Task("t", words, inputs, Path("/home/out"), outputs), digests, 3)


def nothing(number: int) -> np.ndarray:
    raise AssertionError(f"no input {number} was expected")


def test_a_key_is_of_the_command_and_the_contents() -> None:
    task = Task("t", ("detect", "{0}"), (Path("a.pth"),), Path("out"), ("r",))
    key = order_of(task, ("d",), 1).key
    assert key == order_of(task._replace(name="u", out=Path("v"), inputs=(Path("b.pth"),)), ("d",), 2).key
    others = [
        order_of(task, ("e",), 1), order_of(task._replace(words=("detect", "{0}", "x")), ("d",), 1),
        order_of(task._replace(outputs=("s",)), ("d",), 1),
    ]  # fmt: skip
    assert len({key, *(other.key for other in others)}) == 4


def test_an_unfinished_folder_is_gone_on_with_and_a_finished_one_cleared(place: Path) -> None:
    asked = order(
        COUNT + "n or sys.exit(4); (out / 'r').write_text(f'{n} ' + open(sys.argv[2]).read())", "r", digests=("d",)
    )
    fetched: list[int] = []

    def fetch(number: int) -> np.ndarray:
        fetched.append(number)
        return np.frombuffer(b"input", np.uint8)

    first = perform(asked, fetch)
    assert (first.code, first.files) == (4, {})
    assert (place / asked.key).is_dir()
    assert place.stat().st_mode & 0o777 == 0o700
    second = perform(asked, fetch)
    assert (second.code, second.files["r"].tobytes()) == (0, b"1 input")
    assert fetched == [0]
    assert not any(place.iterdir())


def test_the_next_attempt_waits_for_a_command_that_was_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = order(COUNT)
    folder = place / asked.key
    folder.mkdir(parents=True)
    hold = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2)\n"
    hold += "print(flush=True); time.sleep(1.5)"
    words = [sys.executable, "-c", hold, str(folder / ".running")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        monkeypatch.setattr(attempt, "_PATIENCE", 0.2)
        with pytest.raises(RuntimeError, match=f"another process works at the same task in {folder}"):
            perform(asked, nothing)
        monkeypatch.setattr(attempt, "_PATIENCE", 30)
        begun = time.monotonic()
        assert perform(asked, nothing).code == 0
        assert time.monotonic() - begun > 0.5


def test_a_program_of_another_place_is_found_beside_this_python(place: Path) -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['PATH'].split(':')[0])"
    report = perform(order(code, program=f"/no/such/place/{Path(sys.executable).name}"), nothing)
    assert report.code == 0
    assert report.log.decode().splitlines()[-1] == f"3 {Path(sys.executable).parent}"


def test_a_command_whose_keeper_is_killed_counts_as_killed_and_is_gone(place: Path) -> None:
    code = "import os, pathlib, sys, time; (pathlib.Path(sys.argv[1]) / 'pid').write_text(str(os.getpid()))\n"
    code += "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.kill(os.getppid(), 9); time.sleep(90)"
    asked = order(code, "pid")
    assert perform(asked, nothing).code == -9
    pid = (place / asked.key / "out" / "pid").read_text()
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_a_command_leaves_running_is_ended_and_holds_nothing(place: Path) -> None:
    code = "import pathlib, subprocess, sys; p = subprocess.Popen(['sleep', '90'], close_fds=False)\n"
    code += "(pathlib.Path(sys.argv[1]) / 'pid').write_text(str(p.pid))"
    begun = time.monotonic()
    report = perform(order(code, "pid"), nothing)
    assert report.code == 0
    pid = report.files["pid"].tobytes().decode()
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < begun + 45
        time.sleep(0.02)
