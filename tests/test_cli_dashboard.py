"""The command `policy-search dashboard`: the real server in a process of its own, what it serves, how it refuses."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest

from policy_search import cli
from policy_search.augment import baseline
from policy_search.study.artifacts import Gallery
from policy_search.study.dashboard import open_storage, open_study
from policy_search.study.notes import DataFacts, StudyFacts, TrialFacts
from policy_search.study.storage import open_storage as open_for_writing
from tests.study.conftest import culture

NAME = "demo/A172 seed 0"


def make_run(folder: Path) -> tuple[Path, optuna.Study]:
    """A run folder with one finished trial that has pictures."""
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"data": "demo/A172", "out": "elsewhere", "trials": 4, "fingerprint": "f"})
    )
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/study.db", study_name=NAME, direction="maximize", load_if_exists=True
    )
    shown = Gallery(
        folder / "artifacts", [culture(0, 80, 80, 4)], DataFacts("demo/A172", True, "x"), metrics=("matched",),
        directions=("maximize",),
    )  # fmt: skip
    trial = study.ask()
    trial.set_user_attr("name", "flip")
    facts = TrialFacts("flip", "naive", (0.5,))
    assert shown.show_trial(study, trial, baseline("flip"), facts, {"probe": (1.0, 0.5)}) is None
    study.tell(trial, 0.5)
    assert shown.show_study(study, StudyFacts(str(folder), 4)) is None
    return folder, study


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running:
    """`policy-search dashboard` in a process of its own."""

    def __init__(self, *arguments):
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "policy_search.cli", "dashboard", *map(str, arguments), "--no-browser", "--port",
             str(self.port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        self.url = self.process.stdout.readline().strip()

    def get(self, path, method="GET", body=None, host=None):
        """(status, content type, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        connection.request(method, path, body=body, headers={**headers, **({"Host": host} if host else {})})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheader("Content-Type"), content

    def interrupt(self):
        """What Ctrl-C does: (exit code, standard output, standard error)."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("dashboard") / "my run")


@pytest.fixture(scope="module")
def running(run_folder):
    server = Running(run_folder[0])
    yield server
    if server.process.poll() is None:
        server.process.kill()
        server.process.communicate()


def test_it_says_where_the_studys_page_is(running, run_folder):
    assert (
        running.url == f"http://127.0.0.1:{running.port}/dashboard/studies/{run_folder[1]._study_id}  (Ctrl-C ends it)"
    )


def test_study_and_page_are_served(running, run_folder):
    status, _, body = running.get("/api/studies")
    assert (status, [s["study_name"] for s in json.loads(body)["study_summaries"]]) == (200, [NAME])
    status, kind, body = running.get(f"/dashboard/studies/{run_folder[1]._study_id}")
    assert (status, kind.split(";")[0]) == (200, "text/html")
    assert b"Optuna Dashboard" in body
    assert body.count(b"min-width:0") == 1  # and the length was mended with it: nothing is cut off
    assert body.rstrip().endswith(b"</html>")


def test_artifacts_are_served_with_their_types(running, run_folder):
    _, study = run_folder
    detail = json.loads(running.get(f"/api/studies/{study._study_id}")[2])
    (trial,) = detail["trials"]
    assert "# flip" in trial["note"]["body"]
    kinds = {}
    for artifact in trial["artifacts"]:
        address = f"/artifacts/{study._study_id}/{trial['trial_id']}/{artifact['artifact_id']}"
        status, kind, body = running.get(address)
        assert status == 200
        kinds[artifact["filename"]] = (kind, body[:8])
        assert (address in trial["note"]["body"]) == (artifact["filename"] != "policy.json")
    assert kinds == {
        "before_after.png": ("image/png", b"\x89PNG\r\n\x1a\n"),
        "losses.svg": ("image/svg+xml", b"<svg xml"),
        "policy.json": ("application/json", b'{"__vers'),
    }


def test_the_address_with_the_study_is_the_only_one_that_answers(running):
    """Bound to the loopback address: other addresses of this machine, and its other loopback addresses, refuse."""
    others = {"127.0.0.2"}
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only picks the address that would be used
            others.add(probe.getsockname()[0])
    except OSError:
        pass  # a machine without a network
    for address in others - {"127.0.0.1"}:
        with pytest.raises(ConnectionRefusedError), socket.create_connection((address, running.port), timeout=5):
            pass


def test_other_host_names_are_refused(running):
    assert running.get("/api/studies", host="evil.example")[0] == 403
    assert running.get("/api/studies", method="DELETE", host="evil.example:80")[0] == 403
    assert running.get("/api/studies", host="localhost:9999")[0] == 200


def test_a_run_goes_on_writing_meanwhile(running, run_folder):
    """Trials are finished while the page is asked for again and again; neither side fails."""
    folder, _ = run_folder
    study = optuna.load_study(storage=f"sqlite:///{folder}/study.db", study_name=NAME)
    statuses, done = [], threading.Event()

    def look():
        while not done.is_set():
            statuses.append(running.get(f"/api/studies/{study._study_id}")[0])

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 0.1), n_trials=15)
    done.set()
    for watcher in watchers:
        watcher.join()
    assert set(statuses) == {200}
    assert len(study.trials) == 16


def test_a_note_from_the_browser_waits_for_a_run_that_writes(running, run_folder):
    """Somebody holds the file's write lock for longer than SQLite's own 5 s; the note is saved all the same."""
    folder, study = run_folder
    version = json.loads(running.get(f"/api/studies/{study._study_id}")[2])["note"]["version"]
    writer = sqlite3.connect(folder / "study.db", isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    answers = []
    body = json.dumps({"version": version + 1, "body": "mine"})
    put = threading.Thread(
        target=lambda: answers.append(running.get(f"/api/studies/{study._study_id}/note", "PUT", body)[0])
    )
    put.start()
    time.sleep(6)
    assert answers == []
    writer.execute("ROLLBACK")
    put.join(timeout=30)
    writer.close()
    assert answers == [204]


def test_ctrl_c_ends_it_with_one_line_and_code_0(run_folder):
    server = Running(run_folder[0])
    assert server.get("/api/studies")[0] == 200
    assert server.interrupt() == (0, "dashboard ended\n", "")


def test_a_storage_without_a_folder_lists_its_studies(run_folder):
    folder, _ = run_folder
    server = Running("--storage", f"sqlite:///{folder}/study.db")
    assert server.url == f"http://127.0.0.1:{server.port}/dashboard  (Ctrl-C ends it)"
    assert server.process.stdout.readline() == "pictures are not shown: give --artifacts FOLDER\n"
    assert server.get("/api/studies")[0] == 200
    server.interrupt()


def test_a_study_on_a_server_is_shown_without_the_password(postgres_url):
    with open_for_writing(postgres_url) as storage:
        study = optuna.create_study(storage=storage, study_name="shared")
        server = Running("shared", "--storage", postgres_url)
        assert server.url.startswith(f"http://127.0.0.1:{server.port}/dashboard/studies/{study._study_id}")
        study.optimize(lambda trial: 1.0, n_trials=1)
        assert len(json.loads(server.get(f"/api/studies/{study._study_id}")[2])["trials"]) == 1
        code, out, err = server.interrupt()
    assert (code, err) == (0, "")
    assert "s3cret-word" not in server.url + out


def test_what_is_shown(run_folder, tmp_path):
    folder, study = run_folder
    opened = open_study(str(folder), None, None)
    assert (opened.study_id, opened.artifacts) == (study._study_id, folder / "artifacts")
    url = f"sqlite:///{folder}/study.db"
    assert open_study(NAME, url, tmp_path).study_id == study._study_id
    assert open_study(NAME, url, tmp_path).artifacts == tmp_path
    assert open_study(str(folder), url, tmp_path).artifacts == tmp_path


@pytest.fixture
def refusal(monkeypatch, capsys):
    """Call the command; its sentence, after a look at the exit code."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["policy-search", "dashboard", *map(str, arguments), "--no-browser"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        return capsys.readouterr().err

    return call


def test_refusals(refusal, run_folder, tmp_path):
    folder, _ = run_folder
    url = f"sqlite:///{folder}/study.db"
    assert "name a run folder, or give --storage" in refusal()
    assert f"{tmp_path / 'none'} is not a folder" in refusal(tmp_path / "none")
    assert "is not a run folder, it has no config.json" in refusal(tmp_path)
    assert f"holds no study named 'other' (studies there: '{NAME}')" in refusal("other", "--storage", url)
    assert "there is no such file" in refusal("--storage", f"sqlite:///{tmp_path}/no.db")
    assert not (tmp_path / "no.db").exists()
    assert "found no scheme" in refusal("--storage", "study.db")
    assert "'oracle9' is not supported" in refusal("--storage", "oracle9://x/y")
    (tmp_path / "text.db").write_text("no database" * 200)
    assert "cannot be read as a study database" in refusal("--storage", f"sqlite:///{tmp_path}/text.db")
    (tmp_path / "empty.db").touch()
    assert "holds no study yet" in refusal("--storage", f"sqlite:///{tmp_path}/empty.db")


def test_a_server_that_is_not_there_is_named_without_its_password(refusal):
    pytest.importorskip("psycopg2")
    said = refusal("--storage", f"postgresql://me:se%2Fcret@127.0.0.1:{free_port()}/studies")
    assert "postgresql://me:***@127.0.0.1" in said
    assert "Connection refused" in said
    assert "Start the server" in said
    assert "se/cret" not in said
    assert "se%2Fcret" not in said


def test_a_port_in_use_is_named_with_another(refusal, run_folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port} is in use: end what uses it, or try --port {port + 1}" in refusal(
            run_folder[0], "--port", port
        )


def test_no_table_is_made_and_an_older_schema_is_refused(tmp_path, refusal):
    path = tmp_path / "old.db"
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    storage.engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    connection.close()
    before = path.read_bytes()
    assert "with tables of version v2.6.0.a" in refusal("--storage", f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_open_storage_closes_nothing_behind_the_callers_back(run_folder):
    storage, place = open_storage(f"sqlite:///{run_folder[0]}/study.db")
    assert place == f"sqlite:///{run_folder[0]}/study.db"
    assert [study.study_name for study in storage.get_all_studies()] == [NAME]
