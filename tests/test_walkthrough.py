"""Through the whole house on generated data: search, policy file, preview, pretrain, finetune, evaluate, table."""

from __future__ import annotations

import csv
import io
import json
import sys

import albumentations as A
import numpy as np
import pytest
from PIL import Image

import policy_search
from detection import cli as detect_cli
from policy_search import cli as search_cli
from tests.conftest import write_livecell


@pytest.fixture
def call(monkeypatch, capsys):
    """Run one of the two commands as a user would; return its standard output."""

    def run(*words: object) -> str:
        main = {"policy-search": search_cli.main, "detect": detect_cli.main}[str(words[0])]
        monkeypatch.setattr(sys, "argv", [str(w) for w in words])
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert code in (0, None), err
        return out

    return run


def test_from_images_to_table(call, tmp_path):
    root = write_livecell(
        tmp_path / "livecell",
        {"A172": {"train": 4, "val": 2, "test": 2}, "BV2": {"train": 0, "val": 0, "test": 1}},
        size=(128, 136),
        cells=20,
    )
    policy_dir, base, results = tmp_path / "policy", tmp_path / "base", tmp_path / "results.sqlite"
    search = (
        "policy-search", "run", "--data", "A172", "--root", root, "--trials", 3, "--steps", 6, "--final-seeds", 2,
        "--finalists", 1, "--probe-steps", 6, "--probe-base-steps", 20, "--out", policy_dir,
    )  # fmt: skip
    call(*search)

    # the policy: a winner of the second round, loadable by Albumentations, with its provenance
    best = policy_search.load_policy(policy_dir / "best.json")
    assert isinstance(A.load(policy_dir / "best.json"), A.Compose)
    assert best.provenance.data == "A172"
    assert best.provenance.seed == 0
    assert not best.provenance.synthetic
    log = [json.loads(line) for line in (policy_dir / "log.jsonl").read_text().splitlines()]
    assert [row["name"] for row in log[:2]] == ["none", "random_choice"]
    assert any(row["family"] == "searched" for row in log)
    assert {f"trials/{i:03d}/policy.json" for i in range(3)} == {
        str(p.relative_to(policy_dir)) for p in policy_dir.glob("trials/*/policy.json")
    }
    assert (policy_dir / "report.md").is_file()
    with Image.open(policy_dir / "previews" / "best.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 10, "the sheet shows something"

    # the same command again continues (nothing is left to do) and leaves the same winner
    call(*search)
    assert policy_search.load_policy(policy_dir / "best.json").content_hash == best.content_hash
    assert best.content_hash[:8] in call("policy-search", "show", policy_dir / "best.json")

    # detection: base model, two fine-tunes through one code path, table
    call("detect", "pretrain", "--data", "A172", "--root", root, "--preset", "tiny", "--iterations", 12, "--out", base)
    weights = base / "model.pth"
    learnt = policy_dir / "trials" / "002" / "policy.json"
    assert policy_search.load_policy(learnt).provenance.family == "searched"
    for policy in (learnt, "none"):
        call(
            "detect", "finetune", "--policy", policy, "--data", "A172", "--root", root, "--weights", weights,
            "--iterations", 3, "--results", results, "--out", tmp_path / "tuned" / str(policy).split("/")[-1],
        )  # fmt: skip
    assert "BV2" in call("detect", "evaluate", "--weights", weights, "--data", "all", "--root", root)
    table = list(csv.DictReader(io.StringIO(call("detect", "table", "--results", results, "--format", "csv"))))
    tested = {(row["policy"], row["cell_type"]) for row in table}
    assert tested == {(n, t) for n in ("none", log[2]["name"]) for t in ("A172", "BV2", "mean of unseen")}
    assert all(0.0 <= float(row["ap50_mean"]) <= 100.0 for row in table)
