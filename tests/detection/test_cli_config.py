"""`detect config`: a preset as TOML that reads back, and its weights as JSON lines."""

from __future__ import annotations

import json
import sys
import tomllib

import pytest
from typer.testing import CliRunner

import detection.cli as cli
from detection.network import Frozen, ModelConfig
from detection.presets import PRESETS
from detection.recipe import Recipe
from detection.toml import table
from tests.detection.published import livecell_entries

runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"})


def shown(*arguments: str) -> str:
    result = runner.invoke(cli.app, ["config", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_back_as_itself_and_fits_80_columns(name):
    text = shown("--preset", name)
    assert max(map(len, text.splitlines())) <= 80
    read = tomllib.loads(text)
    assert list(read) == ["network", "pretraining", "finetuning"]
    assert ModelConfig(**read["network"]) == PRESETS[name].network
    assert Recipe(**read["pretraining"]) == PRESETS[name].pretraining
    assert Recipe(**read["finetuning"]) == PRESETS[name].finetuning
    # Every field is there to be read, set or not.
    for field in ModelConfig.model_fields:
        assert f"\n{field} = " in text or f"\n# {field}: none\n" in text


def test_livecell_says_what_its_published_configuration_says():
    lines = shown("--preset", "livecell").splitlines()
    for line in (
        "radix = 2", "blocks = [3, 24, 36, 3]", "deformable = [false, true, true, true]", "deform_groups = 2",
        'anchor_levels = ["p2", "p2", "p3", "p4", "p5", "p6"]',
        "anchor_sizes = [[4.0], [9.0], [17.0], [31.0], [64.0], [127.0]]",
        "anchor_ratios = [0.25, 0.5, 1.0, 2.0, 4.0]", "rpn_batch = 256", "candidates_train = 12000",
        "candidates_test = 6000", "proposals_train = 3000", "proposals_test = 3000", "rois = 512", "box_convs = 4",
        "mask_convs = 8", "detections = 3000", "pixel_mean = 128.0", "pixel_std = 11.578",
        "sizes = [440, 480, 520, 560, 580, 620]", 'optimizer = "sgd"', "lr = 0.02", 'schedule = "steps"',
    ):  # fmt: skip
        assert line in lines, line


def test_toml_survives_awkward_values():
    class Awkward(Frozen):
        text: str = 'say "é\\n"\n\t'
        small: float = 1e-12
        whole: float = 3.0
        nested: tuple[tuple[bool, ...], ...] = ((True,), ())

    assert Awkward(**tomllib.loads(table("a", Awkward()))["a"]) == Awkward()


def test_keys_are_the_published_list_without_the_anchors():
    pytest.importorskip("detectron2", reason="detectron2 is not installed: make setup")
    found = [json.loads(line) for line in shown("--preset", "livecell", "--keys").splitlines()]
    published = [entry for entry in livecell_entries() if ".cell_anchors." not in entry["name"]]
    assert len(found) == 2146
    assert sorted(found, key=lambda entry: entry["name"]) == sorted(published, key=lambda entry: entry["name"])


def test_an_unknown_preset_is_one_sentence_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["detect", "config", "--preset", "huge"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: unknown preset 'huge': expected one of tiny, r50, livecell\n"
