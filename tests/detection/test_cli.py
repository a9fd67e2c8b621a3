"""The command line: help, exit codes, messages."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import detection.cli as cli
from detection.store import Store
from tests.detection.test_store import result

runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"})
COMMANDS = ["pretrain", "finetune", "evaluate", "predict", "matrix", "table", "compare", "report", "config"]


def run_main(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of the entry point."""
    monkeypatch.setattr(sys, "argv", ["detect", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_fits_80_columns(command):
    shown = runner.invoke(cli.app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"Example: detect {command}" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80


def test_importing_the_command_line_loads_nothing_heavy():
    check = (
        "import sys, detection.cli; print([m for m in ('torch', 'detectron2', 'albumentations') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "--results", "missing.sqlite"], "no results at missing.sqlite"),
        (["evaluate", "--weights", "missing.pth"], "no weights at missing.pth"),
        (["evaluate", "--weights", "x.pth", "--split", "tset"], "--split: "),
        (["predict", "a.tif", "--weights", "x.pth", "--out", "o", "--tile", "64"], "--tile: "),
        (["predict", "a.tif", "--weights", "missing.pth", "--out", "o"], "no weights at missing.pth"),
        (["finetune", "--policy", "none", "--data", "A172", "--weights", "missing.pth"], "no weights at missing.pth"),
        (["pretrain", "--data", "demo/A127", "--out", "base"], "A127"),
        (["pretrain", "--data", "A172", "--out", "base", "--root", "missing"], "--root points at missing"),
        (["pretrain", "--data", "demo/A172", "--out", "base", "--preset", "huge"], "unknown preset 'huge'"),
        (["pretrain", "--data", "demo/A172", "--out", "b", "--epochs", "1", "--iterations", "2"], "choose one"),
        (["pretrain", "--data", "demo/A172", "--out", "base", "--lr", "-1"], "--lr: "),
        (["pretrain", "--data", "demo/A172", "--out", "base", "--device", "abacus"], "device 'abacus'"),
    ],
)
def test_bad_input_is_one_sentence_exit_code_2_and_no_trace(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, error = run_main(monkeypatch, capsys, *arguments)
    assert code == 2
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_detectron2_names_the_remedy(tmp_path):
    # In a process of its own: modules that other tests hold must not be loaded a second time.
    script = "import sys; sys.modules['detectron2'] = None; import detection.cli as c; c.main()"
    arguments = ["pretrain", "--data", "demo/A172", "--out", str(tmp_path / "base")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "make setup" in done.stderr
    assert "policy-search[detection]" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_table_prints_what_the_store_holds(tmp_path):
    Store(tmp_path / "r.sqlite").put([result(ap50=0.123)])
    for form in ("md", "csv", "tex"):
        shown = runner.invoke(cli.app, ["table", "--results", str(tmp_path / "r.sqlite"), "--format", form])
        assert shown.exit_code == 0
        assert "12.3" in shown.output


def test_divergence_ends_with_code_1_and_its_sentence(monkeypatch, capsys, tmp_path):
    pytest.importorskip("detectron2")
    import detection.pretrain
    from detection.failures import TrainingDivergedError

    def diverge(*_):
        raise TrainingDivergedError("loss is not finite at iteration 3: loss_mask nan")

    monkeypatch.setattr(detection.pretrain, "pretrain", diverge)
    code, error = run_main(monkeypatch, capsys, "pretrain", "--data", "demo/A172", "--out", str(tmp_path))
    assert code == 1
    assert error == "error: loss is not finite at iteration 3: loss_mask nan\n"
