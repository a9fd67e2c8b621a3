"""The page on experiments: its numbers, its parts, its markup."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from detection import cli  # noqa: F401  (registers the commands)
from detection.cli_options import app
from detection.compare import compare, every_pair
from detection.matches import average_precision
from detection.matrices.record import load_matrix, save_matrix
from detection.matrices.runs import runs_of
from detection.report import write_report
from detection.reports.previews import previews
from detection.store import Store
from detection.tables.blocks import interval, signed
from policy_search.augment import load_policy
from policy_search.augment.baselines import BASELINES
from policy_search.augment.preview import preview_tiles
from policy_search.cells import resolve
from policy_search.cells.errors import InputError
from tests.detection.experiment import experiment

PAPER = Path(__file__).parents[2] / "experiments" / "paper_tables.csv"
ODD = 'ours <i> & "x"'
ROWS = {"none": 0.4, "flip": 0.9, "crop": 0.45, ODD: 0.7}
VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Checks that tags balance; collects text, tables and pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.sources: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self._label = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.attributes += [(tag, name) for name in found]
        if "src" in found:
            self.sources.append(found["src"])
        if tag == "div" and "aria-label" in found:
            self._label = found["aria-label"]
        if tag == "table":
            self.tables[self._label] = []
        elif tag == "tr":
            self.tables[self._label].append([])
        elif tag in ("td", "th"):
            self.tables[self._label][-1].append("")
        if tag == "br" and "table" in self.open:
            self.tables[self._label][-1][-1] += "|"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):  # in SVG
        assert "svg" in self.open

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[self._label][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("report")
    experiment(
        place, ROWS, title="Table <1> & more", types=("A172", "BT474", "SKBR3"), images=4,
        without=[("crop", 1)], policies={ODD: "search:ours"},
    )  # fmt: skip
    write(place)
    return place


def write(place: Path, name: str = "report.html", **options) -> str:
    write_report([place / "table1.json"], place / "results.sqlite", place / name, **options)
    return (place / name).read_text()


@pytest.fixture(scope="module")
def page(folder):
    return Page(write(folder, paper=PAPER))


def expected(folder):
    record = load_matrix(folder / "table1.json")
    (runs,) = runs_of(record, Store(folder / "results.sqlite"))
    return compare(runs, pairs=every_pair([ODD], ["flip", "crop"]))


def test_numbers_are_those_of_compare(folder, page):
    found = expected(folder)
    ap50 = page.tables["Mask AP50 in %, trained on demo/A172"]
    assert ap50[0] == ["cell type", *ROWS]
    assert [row[0].split("|")[0] for row in ap50[1:]] == ["A172 (seen)", "BT474", "SKBR3", "mean of unseen"]
    for row, name in zip(ap50[1:4], ("A172", "BT474", "SKBR3"), strict=True):
        for label, text in zip(ROWS, row[1:], strict=True):
            spread = found.scores[label].types[name]
            sd = "" if spread.sd is None else f" ± {100 * spread.sd:.1f}"
            assert text.split("|")[0] == f"{100 * spread.mean:.1f}{sd}"
    gains = page.tables["Gain over none in points of AP50, trained on demo/A172"]
    for label, text in zip(found.contrasts, gains[-1][1:], strict=True):
        gain = found.contrasts[label].gain
        assert text.split("|")[:2] == [signed(100 * gain.value), interval(gain)]
    assert "| (paper" not in ap50[2][4]
    assert ap50[2][1].endswith("|(paper 47.5)")  # Table 1: none on BT474
    assert gains[2][1].endswith("|(paper +5.8)")  # 53.30 - 47.55


def test_verdict_says_which_rows_are_better(folder, page):
    found = expected(folder)
    clear = [row for row, c in found.contrasts.items() if c.gain.clear(0.95) and c.gain.value > 0]
    (sentence,) = re.findall(r"Better: (.*?)\. (?:Worse|Not told|Missing)", page.text)
    assert {
        row for row in found.contrasts if f"{row} {signed(100 * found.contrasts[row].gain.value)}" in sentence
    } == set(clear)
    assert clear  # or the sentence above is never made
    assert "Missing or incomplete runs: crop with seed 1." in page.text
    assert f"The learnt {ODD} against each naive row:" in page.text


def test_heat_map_has_every_effect_and_dots_where_clear(folder):
    found = expected(folder)
    svg = re.search(r"<svg.*?</svg>", (folder / "report.html").read_text(), re.S)[0]
    effects = [e for c in found.contrasts.values() for e in (*c.types.values(), c.gain)]
    cells = re.findall(r'<rect [^>]*width="76"[^>]*/><text [^>]*>([^<]*)</text>(<circle)?', svg)
    assert sorted(value for value, _ in cells) == sorted(signed(100 * e.value) for e in effects)
    assert sum(bool(dot) for _, dot in cells) == sum(e.clear(0.95) for e in effects) > 0


def test_labels_are_escaped_and_nothing_is_loaded_from_elsewhere(folder, page):
    text = (folder / "report.html").read_text()
    assert "<i>" not in text
    assert "<1>" not in text
    assert "Table <1> & more" in page.text
    assert ODD in page.text
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not {"href", "onclick"} & {name for _, name in page.attributes}
    assert "url(" not in text
    assert "@import" not in text
    assert "script" not in {tag for tag, _ in page.attributes}
    assert "SYNTHETIC" in page.text


def test_pictures_decode_and_each_policy_and_type_has_its_own(folder, page):
    sizes = []
    for source in page.sources:
        data = base64.b64decode(source.partition(",")[2], validate=True)
        with Image.open(BytesIO(data)) as image:
            sizes.append((image.format, image.size))
            assert np.asarray(image.convert("L")).std() > 5
    assert [form for form, _ in sizes].count("PNG") == 1  # sizes and convexities
    # One preview a policy (the search's is the same as flip), four predictions a type.
    assert [form for form, _ in sizes].count("JPEG") == 3 + 3 * 4
    for name in ("BT474 (unseen, synthetic)", "A172 (seen in training, synthetic)"):
        assert name in page.text
    assert (folder / "report.html").stat().st_size < 3_000_000


def test_predictions_are_of_the_reference_and_the_best_row(folder, page):
    found = expected(folder)
    best = max(found.contrasts, key=lambda row: found.contrasts[row].gain.value)
    assert best == "flip"
    (runs,) = runs_of(load_matrix(folder / "table1.json"), Store(folder / "results.sqlite"))
    for row, role in (("none", "reference"), ("flip", "highest mean gain")):
        for name in ("A172", "BT474", "SKBR3"):
            own = {image.image: 100 * average_precision([image]) for image in runs.images[row, 0][name]}
            for kind, pick in (("best", max), ("worst", min)):
                value = pick(own.values())
                words = f"{row} ({role}), seed 0, its {kind} of 4 images: AP50 {value:.1f} %, "
                captions = re.findall(re.escape(words) + r"(\d+) cells labelled, \d+ found\. (\S+)", page.text)
                assert len(captions) == 1
                assert own[captions[0][1]] == value
    assert f"{ODD} (" not in page.text.split("Predictions beside ground truth")[1]


def test_previews_are_drawn_with_the_seed_of_the_run(folder):
    record = load_matrix(folder / "table1.json")
    found = {p.label: p for p in previews(record, folder, "demo/A172", None)}
    assert list(found) == list(ROWS)
    tiles = preview_tiles(load_policy("crop"), resolve("demo/A172", "train"), images=1, draws=4, seed=0)[0]
    width = tiles[0].pixels.shape[1]
    assert (found["crop"].pixels[:, :width] == tiles[0].pixels).all()
    assert (found["crop"].pixels[:, -width:] == tiles[4].pixels).all()
    assert found[ODD].words.startswith("The policy that was learnt with seed 0. A172, original: ")
    assert found["crop"].words.startswith("A172, original: ")


def test_a_record_apart_from_its_runs_still_shows_the_naive_strategies(folder, tmp_path):
    record = load_matrix(folder / "table1.json")
    there = {p.label: p for p in previews(record, folder, "demo/A172", None)}
    apart = {p.label: p for p in previews(record, tmp_path, "demo/A172", None)}
    naive = {c.label for c in record.cells if c.policy in BASELINES}
    assert naive
    for label in naive:
        assert np.array_equal(apart[label].pixels, there[label].pixels)
    assert all("No picture" in apart[label].words for label in set(apart) - naive)
    cells = tuple(c.model_copy(update={"policy_hash": "0"}) for c in record.cells)
    changed = previews(record.model_copy(update={"cells": cells}), tmp_path, "demo/A172", None)
    assert all("no longer what this run was made with" in p.words for p in changed if p.label in naive)


def test_the_source_is_marked_in_the_figure(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "detection.report.figure_bytes", lambda types, source: drawn.append((types, source)) or b"\x89PNG"
    )
    write(folder, "figure.html", pictures=False)
    ((types, source),) = drawn
    assert source.cell_type == "A172"
    dataset = resolve("demo/A172,BT474,SKBR3", "test")
    assert {t.cell_type: len(t) for t in types} == {
        name: sum(len(dataset.instances(r)) for r in dataset.of_type(name)) for name in dataset.cell_types
    }


def test_without_pictures(folder):
    page = Page(write(folder, "bare.html", pictures=False))
    assert not [source for source in page.sources if "jpeg" in source]
    assert page.text.count("Left out with --no-pictures") == 2
    for name in ("A172", "BT474", "SKBR3", *ROWS):
        assert name in page.text


def test_the_same_experiment_gives_the_same_page(folder):
    assert write(folder, "one.html") == write(folder, "two.html")


def test_cost_and_commands(page):
    cost = page.tables["cost of Table <1> & more"]
    assert [row for row in cost if row[0] == "flip"] == [["flip", "2", "10.5", "21.0"]]
    assert [row for row in cost if row[0] == "crop"] == [["crop", "1", "10.0", "10.0"]]
    assert cost[-1] == ["all", "9", "21.6", "194.0"]  # 4 × 10 + 3 × 11 + 60 + 61
    assert "7 of 8 fine-tunes are finished; missing: 1" in page.text
    assert "detect matrix experiments/table1.toml --scale demo" in page.text
    assert page.text.count("detect pretrain --data demo/A172 --seed 0 --out base/0") == 1
    for seed in (0, 1):
        assert f"detect finetune --data demo/A172 --policy 'flip' --seed {seed}" in page.text
    assert "torch 2.13.0" in page.text


def test_what_cannot_be_shown_is_named(tmp_path):
    path = experiment(tmp_path, {"none": 0.5, "flip": 0.9, "crop": 0.9}, images=1, seeds=(0,), keep=False,
                      without=[("crop", 0)])  # fmt: skip
    page = Page(write(tmp_path))
    assert page.tables["Mask AP50 in %, trained on demo/A172"][0][-1] == "crop|missing"
    assert [row[-1] for row in page.tables["Mask AP50 in %, trained on demo/A172"][1:]] == ["missing"] * 3
    assert "No picture:" in page.text
    assert "ground_truth/A172.json cannot be read" in page.text
    assert "Nothing can be said (too few seeds or images, or no spread between them): flip" in page.text
    assert "One test image only, so there is no interval and nothing can be said of other images: BT474." in page.text
    record = load_matrix(path)
    save_matrix(record.model_copy(update={"cells": ()}), path)
    with pytest.raises(InputError, match=r"no run of .* is finished yet"):
        write(tmp_path)
    with pytest.raises(InputError, match=r"ends in \.html"):
        write(tmp_path, "report.pdf")


def test_command(folder):
    done = CliRunner().invoke(
        app,
        ["report", str(folder / "table1.json"), "--results", str(folder / "results.sqlite"), "--out",
         str(folder / "new.html"), "--no-pictures"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (folder / "new.html").read_text() == write(folder, "bare.html", pictures=False)
    assert load_policy(folder / load_matrix(folder / "table1.json").cells[2].policy_file).needs_donor is False
