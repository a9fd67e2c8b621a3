"""What the tables say, in each format, against the comparison that they show."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from detection.compare import Comparison, compare, every_pair
from detection.statistics.intervals import Estimate
from detection.statistics.paper import paper_ap50, paper_gain, read_paper
from detection.tables.blocks import effect, p_text, signed
from detection.tables.table import FORMS, render
from detection.tables.terminal import terminal
from policy_search.cells.errors import InputError
from tests.detection.compared import runs

SKILLS = {"none": 0.45, "flip": 0.6, "a_b & 50%": 0.4, "ours|target": 0.75}
PAPER = {"none": {"BT474": 47.55, "BV2": 62.33, "SKOV3": 83.51}, "flip": {"BT474": 53.3, "BV2": 66.7, "SKOV3": 82.69}}
TABLE = Path(__file__).parents[2] / "experiments" / "paper_tables.csv"


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(runs(SKILLS), pairs=every_pair(["ours|target"], ["flip", "a_b & 50%"]), draws=200)


def tables_of(markdown: str) -> list[list[list[str]]]:
    """Tables as rows of cells; a pipe in a cell is escaped."""
    found, own = [], []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            own.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif own:
            found.append(own)
            own = []
    return found


def in_points(estimate: Estimate) -> str:
    values = [f"{100 * v:+.1f}".replace("-", "−") for v in (estimate.value, estimate.low, estimate.high)]
    return f"{values[0]} [{values[1]}, {values[2]}]"


def test_markdown_shows_scores_gains_verdicts_and_pairs(found):
    ap50, gains, summary, rivals = tables_of(render([found], "md"))
    assert ap50[0] == ["cell type", *SKILLS]
    assert [row[0] for row in ap50[2:]] == ["A172 (seen)", "BT474", "BV2", "SKOV3", "mean of unseen"]
    flip = found.scores["flip"]
    assert ap50[3][2] == f"{100 * flip.types['BT474'].mean:.1f} ± {100 * flip.types['BT474'].sd:.1f}"
    assert ap50[6][2] == f"{100 * flip.unseen.mean:.1f} ± {100 * flip.unseen.sd:.1f}"
    assert gains[0] == ["cell type", *list(SKILLS)[1:]]
    for column, contrast in enumerate(found.contrasts.values(), 1):
        for row, estimate in zip(gains[2:], [*contrast.types.values(), contrast.gain], strict=True):
            assert row[column].replace("**", "") == in_points(estimate)
            assert row[column].startswith("**") == (estimate.adjusted < 0.05)
    assert {cell.startswith("**") for row in gains[2:] for cell in row[1:]} == {True, False}
    ours = found.contrasts["ours|target"]
    counts = [f"{n} of 3" for n in (ours.improved, len(ours.better), len(ours.worse))]
    assert summary[-1][0] == "ours|target"
    assert summary[-1][2:6] == [p_text(ours.gain.adjusted), *counts]
    assert summary[-1][6].replace("**", "") == f"{ours.worst} {in_points(ours.types[ours.worst])}"
    assert [row[:2] for row in rivals[2:]] == [["ours|target", "flip"], ["ours|target", "a_b & 50%"]]
    assert rivals[2][2].replace("**", "") == in_points(found.rivals[0].gain)


def test_papers_numbers_stand_beside_ours(found):
    ap50, gains, summary, _ = tables_of(render([found], "md", PAPER))
    assert ap50[3][2].endswith("(53.3)")
    assert "(" not in ap50[3][3]
    assert "(" not in ap50[2][2]  # this paper has no A172
    assert ap50[6][2].endswith(f"({(53.3 + 66.7 + 82.69) / 3:.1f})")
    assert gains[3][1].endswith("(+5.8)")
    assert gains[5][1].endswith("(−0.8)")
    assert gains[6][1].endswith("(+3.1)")
    assert summary[2][1].endswith("(+3.1)")
    text = render([found], "md", PAPER)
    assert "In parentheses: the paper" in text
    assert "compare signs, not sizes" not in text
    assert "compare signs, not sizes" in render([found._replace(synthetic=True)], "md", PAPER)
    # A mean over fewer types than ours is another number.
    fewer = {row: {t: v for t, v in own.items() if t != "BV2"} for row, own in PAPER.items()}
    assert "(" not in tables_of(render([found], "md", fewer))[1][6][1]


@pytest.mark.parametrize("form", ["md", "tex", "terminal"])
def test_every_form_says_what_the_numbers_are(found, form):
    text = terminal([found]) if form == "terminal" else render([found], form)
    flat = " ".join(text.replace("\\%", "%").split())
    for said in ("Trained on A172, real images", "AP50 in %", "seeds (0, 1, 2)", "95 % intervals", "Holm's correction",
                 "200 bootstrap resamples", "Drawn: wells: A172 3, BT474 4; images, because all cells are in one well",
                 "too narrow): BV2 3; nothing, because all cells are in one image", "over 2 pairs"):  # fmt: skip
        assert said in flat, said
    synthetic = found._replace(synthetic=True)
    assert "SYNTHETIC" in (terminal([synthetic]) if form == "terminal" else render([synthetic], form))
    assert "SYNTHETIC" not in text


def test_gaps_are_said():
    whole = runs({"none": 0.45, "flip": 0.6, "crop": 0.4})
    images = {k: v for k, v in whole.images.items() if k != ("flip", 1) and k[0] != "crop"}
    text = render([compare(whole._replace(images=images), draws=100)], "md")
    assert "Not run: crop." in text
    assert "flip lacks seed 1 on some or all types" in text
    assert "–" in tables_of(text)[0][2][3]
    one = render([compare(runs({"none": 0.45, "flip": 0.6}, seeds=(4,)), draws=100)], "md")
    assert "One seed: how much trainings differ is not known" in one
    assert "One seed" not in text
    short = {k: v for k, v in whole.images.items() if k[0] != "crop" or k[1] == 2}
    assert "One seed (crop): how" in render([compare(whole._replace(images=short), draws=100)], "md")
    assert "±" not in one
    assert "[" not in tables_of(one)[1][5][1]


def test_csv_has_every_value_in_full(found):
    lines = list(csv.DictReader(io.StringIO(render([found], "csv", PAPER))))

    def line(**wanted: str) -> dict[str, str]:
        (own,) = [each for each in lines if all(each[k] == v for k, v in wanted.items())]
        return own

    estimate = found.contrasts["flip"].types["BV2"]
    own = line(quantity="gain", row="flip", against="none", cell_type="BV2")
    assert [float(own[k]) for k in ("value", "low", "high")] == pytest.approx(
        [100 * estimate.value, 100 * estimate.low, 100 * estimate.high], rel=1e-15
    )
    assert (float(own["p"]), float(own["p_holm"]), float(own["df"])) == (estimate.p, estimate.adjusted, estimate.df)
    assert own["clear"] == str(int(estimate.adjusted < 0.05))
    names = ("source", "synthetic", "seen", "seeds", "unit", "units", "images", "cells", "level", "draws")
    assert [own[k] for k in names] == ["A172", "0", "0", "0 1 2", "images", "3", "3", "180", "0.95", "200"]
    scored = found.scores["ours|target"].types["A172"]
    own = line(quantity="ap50", row="ours|target", cell_type="A172")
    assert (float(own["value"]), float(own["sd"]), own["seen"]) == (100 * scored.mean, 100 * scored.sd, "1")
    unseen = line(quantity="ap50", row="flip", cell_type="mean of unseen")
    assert float(unseen["value"]) == 100 * found.scores["flip"].unseen.mean
    ours = found.contrasts["ours|target"]
    counts = {name: line(quantity=name, row="ours|target", against="none")["value"]
              for name in ("unseen", "improved", "better", "worse")}  # fmt: skip
    assert counts == {"unseen": "3", "improved": str(ours.improved), "better": str(len(ours.better)), "worse": "0"}
    assert line(quantity="worst_gain", row="ours|target", against="none")["cell_type"] == ours.worst
    rival = line(quantity="gain", row="ours|target", against="flip", cell_type="mean of unseen")
    assert float(rival["p_holm"]) == found.rivals[0].gain.adjusted
    assert float(line(quantity="paper_ap50", row="flip", cell_type="BT474")["value"]) == 53.3


def test_csv_leaves_unknown_values_empty():
    text = render([compare(runs({"none": 0.45, "flip": 0.6}, seeds=(4,)), draws=100)], "csv")
    (own,) = [x for x in csv.DictReader(io.StringIO(text)) if x["quantity"] == "gain" and x["cell_type"] == "SKOV3"]
    assert [own[k] for k in ("low", "high", "p", "p_holm", "clear", "df")] == [""] * 6
    assert "None" not in text


def test_tex_is_balanced_and_escaped(found):
    text = render([found], "tex", PAPER)
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 4
    bare = re.sub(r"\\[{}]", "", text)
    depth = 0
    for letter in bare:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert "a\\_b" in text
    assert "\\& " in text
    assert "50\\%" in text
    assert "ours$|$target" in text
    # Whatever is left of what LaTeX takes for commands, and of letters that plain LaTeX may not know.
    assert not re.search(r"(?<!\\)[%#_~^]", text.replace("[r]", ""))
    assert text.isascii()
    tabular = re.findall(r"\\begin\{tabular\}\{@\{\}l(r+)@\{\}\}\n\\hline\n(.*?)\\hline\n\\end", text, re.DOTALL)
    assert len(tabular) == 4
    for columns, body in tabular:
        for row in body.replace("\\hline", "").strip().split("\n"):
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns)
            assert row.rstrip().endswith("\\\\")


def test_tex_escapes_every_special_letter():
    from detection.tables.tex import escaped

    assert escaped("\\ { } ~ ^ # $") == "\\textbackslash{} \\{ \\} \\textasciitilde{} \\textasciicircum{} \\# \\$"


def test_terminal_fits_80_columns_and_marks_what_is_clear(found):
    text = terminal([found])
    assert max(len(line) for line in text.splitlines()) <= 80
    ours = found.contrasts["ours|target"]
    line = next(each for each in text.splitlines() if each.startswith("ours|target"))
    assert in_points(ours.gain).split(" ")[0] + ("*" if ours.gain.adjusted < 0.05 else "") in line
    assert f"{ours.improved}/3" in line
    assert "*: clear of zero after Holm's correction" in " ".join(text.split())
    assert "Bold" not in text
    assert ours.worst in line
    long = compare(runs({"none": 0.4, "a policy with a name that is longer than any column": 0.6}), draws=100)
    assert max(len(line) for line in terminal([long]).splitlines()) <= 80
    assert "…" in terminal([long])


def test_numbers_as_people_read_them():
    assert [signed(v) for v in (3.14, -0.26, 0.04, -0.04)] == ["+3.1", "−0.3", "0.0", "0.0"]
    assert [p_text(p) for p in (None, 0.0004, 0.0312, 1.0)] == ["–", "<0.001", "0.031", "1.000"]
    assert effect(None, 0.95).text == "–"


def test_sources_follow_each_other(found):
    other = found._replace(source="UsiigaciA")
    assert render([found, other], "md").count("### Trained on") == 2
    assert {x["source"] for x in csv.DictReader(io.StringIO(render([found, other], "csv")))} == {"A172", "UsiigaciA"}


def test_bad_input_is_one_sentence(found):
    assert set(FORMS) == {"md", "csv", "tex"}
    with pytest.raises(InputError, match="unknown format 'pdf': expected one of md, csv, tex"):
        render([found], "pdf")
    with pytest.raises(InputError, match="nothing to compare yet"):
        render([], "md")


def test_the_papers_tables_are_read():
    """Against Tables 1 and 2 as printed."""
    paper = read_paper(TABLE)
    assert len(paper) == 11
    assert paper_ap50(paper, "random_choice", "Huh7") == 73.33
    assert paper_ap50(paper, "autoalbument", "SK-BR-3") == 87.72
    assert paper_gain(paper, "flip", "none", "BT474") == pytest.approx(5.75)
    assert paper_ap50(paper, "flip", "UsiigaciA") is None
    assert paper_gain(paper, "ours", "none", "BT474") is None
    # As its text says of random choice: all unseen types but one.
    unseen = ("BT474", "BV2", "HUH7", "MCF7", "SHSY5Y", "SKBR3", "SKOV3")
    improved = {row: sum(paper_gain(paper, row, "none", t) > 0 for t in unseen) for row in paper}
    assert improved["random_choice"] == 6


def test_a_broken_table_of_the_paper_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read the paper's numbers"):
        read_paper(tmp_path / "none.csv")
    for text in ("", "type,none\nA172,3\n", "cell_type,none\nA172,\n", "cell_type,none\nA172\n"):
        file = tmp_path / "broken.csv"
        file.write_text(text)
        with pytest.raises(InputError, match="is not a table of the paper's numbers"):
            read_paper(file)
