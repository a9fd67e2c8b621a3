"""Processes of this machine: exit codes, kills, retries, locks, GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from detection.local_engine import LOCK, LocalEngine, still_running, words_here
from detection.tasks import Finished, Task


def task(out: Path, script: str, *, outputs=("done",), inputs=(), gpus=0.0, name="") -> Task:
    """A shell script that finds its folder as $0 and its input files after it."""
    words = ("sh", "-c", script, "{out}", *(f"{{{i}}}" for i in range(len(inputs))))
    return Task(name or out.name, words, tuple(inputs), out, tuple(outputs), gpus)


def run(engine: LocalEngine, *tasks: Task) -> tuple[list[str], dict[str, Finished]]:
    began: list[str] = []
    ended: dict[str, Finished] = {}

    def finished(done: Task, how: Finished) -> None:
        assert done.name not in ended, "told twice"
        ended[done.name] = how

    engine.run(tasks, started=lambda task: began.append(task.name), finished=finished)
    return began, ended


def test_a_task_finds_its_folder_and_inputs_and_is_done_when_its_outputs_are_there(tmp_path):
    given = tmp_path / "given"
    given.write_text("content")
    good = task(tmp_path / "good", 'cat "$1" > "$0/done"; echo said; echo wrong >&2', inputs=(given,))
    lazy = task(tmp_path / "lazy", "true")
    began, ended = run(LocalEngine(), good, lazy)
    assert began == ["good", "lazy"]
    assert ended["good"].ok
    assert ended["good"].message == ""
    assert ended["good"].attempts == 1
    assert ended["good"].place == os.uname().nodename
    assert (tmp_path / "good" / "done").read_text() == "content"
    assert (tmp_path / "good" / "log.txt").read_text().endswith("said\nwrong\n")
    assert not ended["lazy"].ok
    assert "lazy ended without writing done" in ended["lazy"].message


def test_an_exit_code_is_a_failure_with_the_end_of_the_log_and_the_others_go_on(tmp_path):
    bad = task(tmp_path / "bad", 'for i in 1 2 3 4 5 6 7 8 9 10; do echo "line $i"; done; exit 3')
    good = task(tmp_path / "good", 'touch "$0/done"')
    _, ended = run(LocalEngine(retries=5), bad, good)
    assert ended["good"].ok
    assert not ended["bad"].ok
    assert ended["bad"].attempts == 1  # ended by itself: not tried again
    lines = ended["bad"].message.splitlines()
    assert lines[0].startswith("bad ended with exit code 3")
    assert lines[1:] == [f"line {i}" for i in range(3, 11)]


def test_a_killed_task_is_started_again_and_goes_on_in_its_folder(tmp_path):
    script = 'echo x >> "$0/tries"; [ "$(wc -l < "$0/tries")" -gt 2 ] || kill -9 $$; touch "$0/done"'
    began, ended = run(LocalEngine(retries=2), task(tmp_path / "a", script))
    assert began == ["a"]
    assert ended["a"].ok
    assert ended["a"].attempts == 3
    _, ended = run(LocalEngine(retries=1), task(tmp_path / "b", script))
    assert not ended["b"].ok
    assert ended["b"].attempts == 2
    assert "b was killed (SIGKILL) 2 times" in ended["b"].message


def test_seconds_are_those_of_the_attempt_that_succeeded(tmp_path):
    script = 'if [ -e "$0/again" ]; then touch "$0/done"; else touch "$0/again"; sleep 3; kill -9 $$; fi'
    _, ended = run(LocalEngine(), task(tmp_path / "a", script))
    assert ended["a"].attempts == 2
    assert ended["a"].seconds < 2.5


def test_jobs_run_at_a_time_and_no_more(tmp_path):
    script = 'date +%s%N > "$0/begin"; sleep 0.4; date +%s%N > "$0/end"; touch "$0/done"'
    tasks = [task(tmp_path / str(i), script) for i in range(5)]
    run(LocalEngine(jobs=2), *tasks)
    spans = [[int((t.out / name).read_text()) for name in ("begin", "end")] for t in tasks]
    at_a_time = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert max(at_a_time) == 2


@pytest.mark.parametrize(
    ("jobs", "given", "threads"), [(1, None, "6"), (2, None, "3"), (4, None, "1"), (9, None, "1"), (2, "5", "5")]
)
def test_cores_are_divided_unless_the_number_of_threads_is_given(tmp_path, jobs, given, threads):
    environment = {"PATH": os.environ["PATH"]} | ({"OMP_NUM_THREADS": given} if given else {})
    engine = LocalEngine(jobs=jobs, cores=6, environment=environment)
    run(engine, task(tmp_path / "a", 'printf %s "$OMP_NUM_THREADS" > "$0/done"'))
    assert (tmp_path / "a" / "done").read_text() == threads
    assert engine.threads == int(threads)


def test_a_task_is_out_of_reach_of_the_terminals_ctrl_c(tmp_path):
    script = "import os, sys; open(sys.argv[1] + '/done', 'w').write(str(os.getsid(0)))"
    run(LocalEngine(), Task("a", (sys.executable, "-c", script, "{out}"), (), tmp_path / "a", ("done",)))
    assert int((tmp_path / "a" / "done").read_text()) != os.getsid(0)


def test_programs_replace_the_first_word(tmp_path):
    words = ("tell", "{out}/done")
    engine = LocalEngine(programs={"tell": ("sh", "-c", 'echo told > "$0"')})
    _, ended = run(engine, Task("a", words, (), tmp_path / "a", ("done",)))
    assert ended["a"].ok
    assert (tmp_path / "a" / "done").read_text() == "told\n"


def test_a_program_that_is_not_there_is_a_failure_and_not_a_crash(tmp_path):
    _, ended = run(LocalEngine(), Task("a", ("no-such-program",), (), tmp_path / "a", ()))
    assert not ended["a"].ok
    assert "could not be started: No such file" in ended["a"].message
    blocked = tmp_path / "file"
    blocked.write_text("")
    _, ended = run(LocalEngine(), task(blocked / "a", "true"), task(tmp_path / "b", 'touch "$0/done"'))
    assert "could not be started" in ended["a"].message
    assert ended["b"].ok


def test_gpus_are_shared_out(tmp_path):
    script = 'printf %s "$CUDA_VISIBLE_DEVICES" > "$0/done"; sleep 0.5'
    environment = {"PATH": os.environ["PATH"]}
    tasks = [task(tmp_path / str(i), script, gpus=0.5) for i in range(4)]
    _, ended = run(LocalEngine(jobs=4, gpus=("0", "1"), environment=environment), *tasks)
    assert all(how.ok for how in ended.values())
    assert sorted((t.out / "done").read_text() for t in tasks) == ["0", "0", "1", "1"]
    whole = [task(tmp_path / f"w{i}", 'date +%s%N > "$0/begin"; ' + script, gpus=1) for i in range(2)]
    run(LocalEngine(jobs=4, gpus=("7",), environment=environment), *whole)
    begins = [int((t.out / "begin").read_text()) for t in whole]
    assert abs(begins[0] - begins[1]) > 4e8  # one after the other
    assert [(t.out / "done").read_text() for t in whole] == ["7", "7"]
    both = task(tmp_path / "both", script, gpus=2)
    three = task(tmp_path / "three", script, gpus=3)
    _, ended = run(LocalEngine(gpus=("0", "1"), environment=environment), both, three)
    assert (both.out / "done").read_text() == "0,1"
    assert "three needs 3 GPUs, and there are 2" in ended["three"].message
    cpu = task(tmp_path / "cpu", script)
    run(LocalEngine(gpus=("0",), environment=environment), cpu)
    assert (cpu.out / "done").read_text() == ""


def test_ctrl_c_reaches_running_tasks_once_and_lets_them_save(tmp_path):
    code = (
        "import signal, sys, time\nout = sys.argv[1]\n"
        "def handle(*_):\n    open(out + '/saved', 'a').write('x'); time.sleep(0.3); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, handle)\nopen(out + '/ready', 'w')\ntime.sleep(90)"
    )
    tasks = [Task(f"t{i}", (sys.executable, "-c", code, "{out}"), (), tmp_path / f"t{i}", ()) for i in range(3)]

    def press() -> None:
        until(lambda: all((t.out / "ready").exists() for t in tasks[:2]))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(LocalEngine(jobs=2), *tasks)
    thread.join()
    assert [(t.out / "saved").read_text() for t in tasks[:2]] == ["x", "x"]
    assert not tasks[2].out.exists()
    assert not any(still_running(t.out) for t in tasks)


def test_tasks_of_a_killed_engine_save_and_end_and_the_next_engine_waits_for_them(tmp_path):
    out = tmp_path / "a"
    code = (
        "import signal, sys, time\nout = sys.argv[1]\n"
        "def handle(*_):\n    time.sleep(1.5); open(out + '/saved', 'w').write('x'); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, handle)\nopen(out + '/ready', 'w')\ntime.sleep(90)"
    )
    (tmp_path / "child.py").write_text(code)
    words = (sys.executable, str(tmp_path / "child.py"), "{out}")
    driver = (
        "from pathlib import Path; from detection.local_engine import LocalEngine; from detection.tasks import Task\n"
        f"task = Task('a', {words!r}, (), Path({str(out)!r}), ())\n"
        "LocalEngine().run([task], started=print, finished=print)"
    )
    process = subprocess.Popen([sys.executable, "-c", driver], start_new_session=True)
    until(lambda: (out / "ready").exists())
    process.kill()
    process.wait()
    assert still_running(out)
    _, ended = run(LocalEngine(), task(out, 'cp "$0/saved" "$0/done"'))
    assert ended["a"].ok, ended["a"].message
    assert not still_running(out)
    assert (out / LOCK).exists()


def test_words_here_fills_in_folder_and_inputs_only(tmp_path):
    words = ("x", "{out}/a", "{0}", "{1}", "{2}", "{unseen}")
    made = words_here(Task("a", words, (Path("i"), Path("j")), Path("o"), ()))
    assert made == ["x", "o/a", "i", "j", "{2}", "{unseen}"]


def until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
