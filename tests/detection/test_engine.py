"""Tasks on a Ray cluster of several nodes on this machine, some of which are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from detection.engine import RayEngine
from detection.matrices.record import load_matrix
from detection.store import Store
from detection.tasks import Finished, Task
from policy_search.cells.errors import InputError

pytest.importorskip("ray", reason="Ray is not installed (extra `cluster`)")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs and two nodes of one CPU, one of them with two GPUs by name."""
    folder = tempfile.mkdtemp(prefix="rt", dir="/tmp")  # sockets' paths must be short
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TMPDIR", "RAY_TMPDIR"):
            patch.setenv(name, folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        made.add_node(num_cpus=1)
        made.add_node(num_cpus=1, num_gpus=2)
        yield made
        made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


class Heard:
    """What an engine tells, in order."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.finished: dict[str, Finished] = {}
        self.threads: set[int] = set()

    def start(self, task: Task) -> None:
        assert task.name not in self.finished
        self.started.append(task.name)
        self.threads.add(threading.get_ident())

    def finish(self, task: Task, finished: Finished) -> None:
        assert task.name not in self.finished, "twice"
        self.finished[task.name] = finished
        self.threads.add(threading.get_ident())


def python(name: str, code: str, out: Path, *inputs: Path, outputs: tuple[str, ...] = ("it.txt",), gpus: float = 0.0,
           more: tuple[str, ...] = ()) -> Task:  # fmt: skip
    """Code with the folder as first argument, then the input files, then `more`."""
    words = (sys.executable, "-c", code, "{out}", *(f"{{{i}}}" for i in range(len(inputs))), *more)
    return Task(name, words, inputs, out, outputs, gpus)


def run(cluster: Any, tasks: list[Task], *, retries: int = 2) -> Heard:
    heard = Heard()
    RayEngine(cluster.address, retries).run(tasks, started=heard.start, finished=heard.finish)
    assert heard.threads == {threading.get_ident()}
    assert sorted(heard.finished) == sorted(task.name for task in tasks)
    return heard


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)


COPY = """
import os, pathlib, sys
out, *inputs = map(pathlib.Path, sys.argv[1:])
(out / "a" / "b").mkdir(parents=True)
(out / "a" / "b" / "it.bin").write_bytes(b"".join(path.read_bytes() for path in inputs) + b"!")
(out / "names.txt").write_text(" ".join(path.name for path in inputs))
(out / "unasked.txt").write_text("stays where it was made")
(out / "env.txt").write_text(f"{os.environ['OMP_NUM_THREADS']} {out} {os.environ['PYTHONPATH']} {os.getcwd()}")
print("has", len(inputs))
"""


def test_inputs_travel_and_outputs_come_back(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}/no/such/folder")
    shared, own = tmp_path / "base.pth", [tmp_path / f"policy{i}.json" for i in range(3)]
    shared.write_bytes(bytes(range(256)) * 4000)
    for i, path in enumerate(own):
        path.write_text(f"policy {i}")
    sent: list[int] = []
    put = ray.put
    monkeypatch.setattr(ray, "put", lambda content: (sent.append(len(content)), put(content))[1])
    outputs = ("a/b/it.bin", "names.txt", "env.txt")
    tasks = [python(f"t{i}", COPY, tmp_path / f"out{i}", shared, path, outputs=outputs) for i, path in enumerate(own)]
    engine, heard = RayEngine(cluster.address), Heard()
    engine.run(tasks, started=heard.start, finished=heard.finish)
    assert sorted(sent) == [8, 8, 8, 1024000]  # the shared file once
    assert sorted(heard.started) == ["t0", "t1", "t2"]
    for i, task in enumerate(tasks):
        told = heard.finished[task.name]
        assert told == Finished(True, "", told.seconds, 1, os.uname().nodename)
        assert 0 < told.seconds < 60
        assert engine.place(task) == told.place
        assert (task.out / "a/b/it.bin").read_bytes() == shared.read_bytes() + f"policy {i}!".encode()
        assert (task.out / "names.txt").read_text() == f"base.pth policy{i}.json"
        threads, where, modules, folder = (task.out / "env.txt").read_text().split()
        assert (threads, folder) == ("1", os.getcwd())
        assert modules.split(os.pathsep)[0] == str(tmp_path)
        assert "/no/such/folder" not in modules
        assert Path(where) != task.out
        assert not Path(where).parent.exists()  # cleared when everything has come back
        assert sorted(p.name for p in task.out.iterdir()) == ["a", "env.txt", "log.txt", "names.txt"]
        assert (task.out / "log.txt").read_text().endswith("\nhas 2\n")


def test_an_exit_code_is_final_and_a_kill_is_not(cluster: Any, tmp_path: Path) -> None:
    count = "import os, pathlib, signal, sys\nwith open(sys.argv[2], 'a') as f: f.write('x')\n"
    out = "(pathlib.Path(sys.argv[1]) / 'it.txt')"
    # It goes on with what a killed attempt has left.
    killed = count + f"old = {out}.exists()\n{out}.write_text('whole')\nold or os.kill(os.getpid(), signal.SIGKILL)"
    always = count + f"{out}.write_text('half'); print('so far'); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    codes = {
        "three": count + f"{out}.write_text('half'); print('a reason'); sys.exit(3)",
        "lazy": count,
        "killed": killed,
        "always": always,
    }
    tasks = [python(n, code, tmp_path / n, more=(str(tmp_path / f"{n}.count"),)) for n, code in codes.items()]
    tasks.append(Task("nothing", ("no-such-program",), (), tmp_path / "nothing", ()))
    tasks.append(python("no input", "", tmp_path / "absent", tmp_path / "absent.pth"))
    heard = run(cluster, tasks, retries=1)
    assert {n: f.ok for n, f in heard.finished.items()} == {**dict.fromkeys(heard.finished, False), "killed": True}
    assert {n: f.attempts for n, f in heard.finished.items()} == {
        "three": 1, "lazy": 1, "killed": 2, "always": 2, "nothing": 1, "no input": 0
    }  # fmt: skip
    for name in codes:
        assert len((tmp_path / f"{name}.count").read_text()) == heard.finished[name].attempts
    said = {name: told.message for name, told in heard.finished.items()}
    log = tmp_path / "three" / "log.txt"
    assert said["three"].splitlines()[0] == f"three ended with exit code 3; the end of {log}:"
    assert said["three"].splitlines()[-1] == "a reason"
    assert said["lazy"].startswith("lazy ended without writing it.txt;")
    assert said["always"].startswith("always was killed (SIGKILL) 2 times;")
    assert said["always"].endswith("so far")
    assert said["nothing"].startswith("nothing ended with exit code 127;")
    assert said["no input"] == f"no input could not be started: {tmp_path / 'absent.pth'}: No such file or directory"
    assert (tmp_path / "killed" / "it.txt").read_text() == "whole"
    assert not (tmp_path / "three" / "it.txt").exists()  # no half result beside the log
    assert sorted(heard.started) == ["always", "killed", "lazy", "nothing", "three"]


def test_shares_of_gpus_are_passed_on(cluster: Any, tmp_path: Path) -> None:
    show = (
        "import os, pathlib, sys; (pathlib.Path(sys.argv[1]) / 'it.txt').write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    tasks = [python("both", show, tmp_path / "both", gpus=2), python("half", show, tmp_path / "half", gpus=0.5)]
    heard = run(cluster, tasks)
    assert all(told.ok for told in heard.finished.values()), heard.finished
    assert sorted((tmp_path / "both" / "it.txt").read_text().split(",")) == ["0", "1"]
    assert (tmp_path / "half" / "it.txt").read_text() in ("0", "1")
    with pytest.raises(InputError, match=r"no machine of the Ray cluster has the 1 CPUs and 3 GPUs that 'three' needs"):
        run(cluster, [python("three", show, tmp_path / "three", gpus=3)])


def test_what_cannot_be_kept_has_failed(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    make = "import pathlib, sys; (pathlib.Path(sys.argv[1]) / 'it.txt').write_text('x')"
    two = make + "; p = pathlib.Path(sys.argv[1]) / 'x'; p.mkdir(); (p / 'y.txt').write_text('y')"
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "x").write_text("in the way")
    tasks = [
        python("kept", make, tmp_path / "kept"), python("lost", make, tmp_path / "file" / "lost"),
        python("half", two, tmp_path / "half", outputs=("it.txt", "x/y.txt")),
    ]  # fmt: skip
    heard = run(cluster, tasks)
    assert heard.finished["kept"].ok
    assert not heard.finished["lost"].ok
    assert not (tmp_path / "half" / "it.txt").exists()  # the result comes last
    assert heard.finished["lost"].message.startswith("lost has ended, but what it made could not be kept: cannot write")


SLOW = """
import os, pathlib, sys, time
out, place, number = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
with open(place / f"{number}.runs", "a") as f: f.write(f"{os.getpid()} {os.environ['RAY_RAYLET_PID']}\\n")
time.sleep(1.5 if number in "012" else 0.1)
(out / "it.txt").write_text(number)
"""


def runs(folder: Path) -> list[tuple[int, int, int]]:
    """Task, process and raylet of every time that a command began."""
    lines = [(int(p.stem), line) for p in folder.glob("*.runs") for line in p.read_text().splitlines(True)]
    return [(n, *map(int, line.split())) for n, line in lines if line.endswith("\n")]  # type: ignore[misc]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_node_killed_in_mid_task_costs_an_attempt_and_no_result(cluster: Any, tmp_path: Path) -> None:
    doomed = cluster.add_node(num_cpus=1)
    raylet = doomed.all_processes["raylet"][0].process.pid
    tasks = [python(f"t{i}", SLOW, tmp_path / f"out{i}", more=(str(tmp_path), str(i))) for i in range(8)]
    hit: list[tuple[int, int, int]] = []

    def kill() -> None:
        while not (found := [run for run in runs(tmp_path) if run[2] == raylet]):
            time.sleep(0.02)
        hit.extend(found)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    heard = run(cluster, tasks)
    killer.join(20)
    ((number, pid, _),) = hit
    assert not alive(pid)  # the command went with its node
    assert Counter(heard.started) == Counter(task.name for task in tasks)  # each once, whatever the attempts
    for i, task in enumerate(tasks):
        attempts = 2 if i == number else 1
        assert heard.finished[task.name]._replace(seconds=0) == Finished(True, "", 0, attempts, os.uname().nodename)
        assert (task.out / "it.txt").read_text() == str(i)
    assert Counter(n for n, _, _ in runs(tmp_path)) == Counter([*range(8), number])


def test_a_worker_that_is_always_lost_is_given_up(cluster: Any, tmp_path: Path) -> None:
    code = "import os, pathlib, time\nfor p in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
    code += "  if p.read_bytes().startswith(b'ray::lost in its worker'): os.kill(int(p.parent.name), 9)\ntime.sleep(60)"
    heard = run(cluster, [python("lost in its worker", code, tmp_path / "t")], retries=1)
    told = heard.finished["lost in its worker"]
    assert (told.ok, told.attempts) == (False, 2)
    assert told.message == "lost in its worker was lost 2 times, with its Ray process or its machine"


DRIVER = """
import sys
from pathlib import Path
from detection.engine import RayEngine
from detection.tasks import Task
address, place = sys.argv[1:]
code = '''
import os, pathlib, sys, time
place, name = pathlib.Path(sys.argv[2]), sys.argv[3]
(place / f"{name}.pid").write_text(str(os.getpid()))
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    (place / f"{name}.saved").write_text("")
    sys.exit(130)
'''
tasks = [Task(n, (sys.executable, "-c", code, "{out}", place, n), (), Path(place) / n, ()) for n in "abcd"]
engine = RayEngine(address)
try:
    engine.run(tasks, started=lambda task: None, finished=lambda task, told: print("finished", task.name, told))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_matrix_lets_commands_save_and_leaves_none(cluster: Any, tmp_path: Path, number: int) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, cluster.address, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )  # fmt: skip
    end = time.monotonic() + 90
    while len(begun := [p for p in tmp_path.glob("*.pid") if p.read_text()]) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    driver.send_signal(number)
    said, _ = driver.communicate(timeout=90)
    if number == signal.SIGINT:
        assert (said, driver.returncode) == ("interrupted\n", 130)
    for path in begun:
        wait_for(path.with_suffix(".saved"))
    while any(alive(int(path.read_text())) for path in begun):
        assert time.monotonic() < end + 20
        time.sleep(0.05)
    assert sorted(tmp_path.glob("*.pid")) == sorted(begun)  # those that waited were not begun


EXPERIMENT = """
title = "T"
reference = "none"
seeds = [0]
[[rows]]
label = "none"
policy = "none"
[[rows]]
label = "flipped"
policy = "flip"
[scales.demo]
sources = ["demo/A172"]
eval = "BT474"
pretrain = { iterations = 1 }
finetune = { iterations = 1 }
"""


def raylet_of(word: str, raylets: set[int]) -> int | None:
    """Of a process of one of these nodes that has this word in its command."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                for entry in (folder / "environ").read_bytes().split(b"\0"):
                    name, _, value = entry.partition(b"=")
                    if name == b"RAY_RAYLET_PID" and int(value) in raylets:
                        return int(value)
    return None


@pytest.mark.slow
def test_a_matrix_whose_node_is_killed_has_every_result_once(cluster: Any, tmp_path: Path) -> None:
    """Real commands with a very small network."""
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    nodes = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    words = ["matrix", "e.toml", "--engine", "ray", "--address", cluster.address]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.detection.micro_detect", *words], cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while (victim := raylet_of("finetune", set(nodes))) is None:
        assert process.poll() is None, process.stdout.read()  # type: ignore[union-attr]
        time.sleep(0.05)
    cluster.remove_node(nodes[victim], allow_graceful=False)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "2 of 2 fine-tunes are in runs/results.sqlite" in said
    assert ", 2 attempts (" in said
    rows = Store(tmp_path / "runs/results.sqlite", create=False).all()
    assert sorted((row.source, row.policy, row.seed, row.cell_type) for row in rows) == [
        ("demo/A172", "flip", 0, "BT474"), ("demo/A172", "none", 0, "BT474")
    ]  # fmt: skip
    record = load_matrix(tmp_path / "runs/matrix/demo/e.json")
    assert [(cell.label, cell.place) for cell in record.cells] == [
        (label, os.uname().nodename) for label in ("none", "flipped")
    ]
    assert record.threads == 1


def test_a_cluster_of_this_machine_is_started_and_ended(tmp_path: Path) -> None:
    import ray

    before = signal.getsignal(signal.SIGTERM)
    task = python("t", "import pathlib, sys; (pathlib.Path(sys.argv[1]) / 'it.txt').write_text('x')", tmp_path / "t")
    heard = Heard()
    RayEngine().run([task], started=heard.start, finished=heard.finish)
    assert heard.finished["t"].ok
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", r"no Ray cluster answers at 127\.0\.0\.1:1 \(.*start one with `ray start --head`"),
        ("ray://127.0.0.1:10001", "expected HOST:PORT of a Ray cluster, or auto, got 'ray://127"),
        ("nonsense", "expected HOST:PORT of a Ray cluster, or auto, got 'nonsense'"),
    ],
)
def test_an_address_without_a_cluster_is_told_at_once(address: str, said: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(InputError, match=said):
        RayEngine(address).run([python("t", "", tmp_path)], started=lambda t: None, finished=lambda t, f: None)
    assert time.monotonic() - begun < 60


def test_without_ray_one_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--engine ray needs Ray, .* pip install 'policy-search\[cluster\]'"):
        RayEngine()
