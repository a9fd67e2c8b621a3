"""The figure of size and convexity: curves against scipy's density, marks and words against the measured cells."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import gaussian_kde

from policy_search.cells.dataset import ImageRecord
from policy_search.cells.errors import InputError
from policy_search.cells.morphology import TypeMorphology
from policy_search.cells.morphology_figure import check_format, density, draw, figure_bytes, morphology_figure
from tests.conftest import ROOT


def culture(label: str, median: float, count: int = 400, seed: int = 0) -> TypeMorphology:
    """A type with log-normal sizes and convexities that end at 1."""
    rng = np.random.default_rng(seed)
    return TypeMorphology(
        label=label,
        data="demo/all" if label.startswith("demo/") else "all",
        cell_type=label,
        synthetic=label.startswith("demo/"),
        records=(ImageRecord(f"{label}/x", label, "test", f"{label}/A1", 9, 9),),
        image=np.zeros(count, np.int64),
        cell=np.arange(1, count + 1),
        area=np.exp(rng.normal(np.log(median), 0.5, count)).astype(np.int64),
        convexity=1 - np.abs(rng.normal(0, 0.08, count)),
        whole=np.ones(count, bool),
    )


def words(artist) -> list[str]:
    return [t.get_text() for t in artist.texts if t.get_text()]


def test_the_curve_is_a_kernel_density():
    values = np.random.default_rng(1).normal(3, 0.4, 500)
    quartiles = np.percentile(values, (25, 75))
    width = 0.9 * min(values.std(), (quartiles[1] - quartiles[0]) / 1.34) * 500**-0.2
    grid = 1 + (np.arange(512) + 0.5) * 4 / 512
    expected = gaussian_kde(values, width / values.std(ddof=1))(grid) * 4 / 512
    found = density(values, 1, 5, bounded=False)
    assert np.abs(found - expected).max() < 0.02 * expected.max()
    assert found.sum() == pytest.approx(1, abs=1e-6)


def test_a_bounded_curve_keeps_its_cells_and_does_not_fall_off_at_the_end():
    values = 1 - np.random.default_rng(1).uniform(0, 0.5, 4000)
    bounded, free = (density(values, 0, 1, bounded=b) for b in (True, False))
    assert bounded.sum() == pytest.approx(1)
    assert bounded[-1] == pytest.approx(bounded[300:500].mean(), rel=0.15)
    assert free[-1] < 0.65 * bounded[-1]


def test_a_curve_of_equal_values_is_a_narrow_peak():
    curve = density(np.full(30, 2.0), 1, 3, bounded=False)
    assert curve.sum() == pytest.approx(1)
    assert 2 <= np.count_nonzero(curve > curve.max() / 2) <= 6


def test_rows_marks_and_medians():
    types = [culture("A172", 900), culture("BV2", 150, seed=1)]
    figure = morphology_figure(types, title="data: all", source=types[0])
    size, convexity = figure.axes
    assert [t.get_text() for t in size.get_yticklabels()] == ["BV2\n400 cells, 1 well", "A172\n400 cells, 1 well"]
    medians = [np.median(types[1].area), np.median(types[0].area)]
    assert words(size) == [*(f"{m:,.0f}" for m in medians), "median"]
    assert words(convexity)[:2] == [f"{np.median(t.convexity):.2f}" for t in (types[1], types[0])]
    circles = [line for line in size.lines if line.get_marker() == "o"]
    assert [c.get_xdata()[0] for c in circles] == pytest.approx(np.log10(medians))
    bars = [line.get_xdata() for line in size.lines if line.get_linewidth() > 3]
    assert bars[1] == pytest.approx(np.log10(np.percentile(types[0].area, (25, 75))))
    thin = [line.get_xdata() for line in convexity.lines if line.get_linewidth() == 0.9]
    assert thin[0] == pytest.approx(np.percentile(types[1].convexity, (5, 95)))
    dashed = [line for line in size.lines if line.is_dashed()]
    assert [line.get_xdata()[0] for line in dashed] == pytest.approx([np.log10(medians[1])])
    assert figure.get_suptitle() == "Size and convexity of cells by type\ndata: all"
    assert "Dashed: median of the source, A172." in figure.get_supxlabel()
    for tick, label in zip(size.get_xticks(), size.get_xticklabels(), strict=True):
        assert 10**tick == pytest.approx(float(label.get_text().replace(",", "")))


def test_every_curve_stands_on_its_row_and_peaks_where_its_cells_are():
    types = [culture("A172", 900), culture("BV2", 150, seed=1)]
    size = morphology_figure(types).axes[0]
    curves = [line for line in size.lines if len(line.get_xdata()) > 100]
    for row, (own, line) in enumerate(zip(reversed(types), curves, strict=True)):
        x, y = line.get_data()
        assert np.nanmax(y) <= row
        assert np.nanmin(y) == pytest.approx(row - 0.72)
        assert abs(x[np.nanargmin(y)] - np.log10(np.median(own.area))) < 0.15


def test_convexity_is_drawn_as_bounded_by_one_and_size_is_not():
    own = replace(culture("A172", 900), convexity=1 - np.abs(np.random.default_rng(4).normal(0, 0.02, 400)))
    curves = [
        next(line for line in axis.lines if len(line.get_xdata()) > 100) for axis in morphology_figure([own]).axes
    ]
    # Half of a bell: its top is at 1, where an unbounded kernel would have lost half of it.
    assert curves[1].get_ydata()[-1] < -0.6
    assert np.isnan(curves[0].get_ydata()[-1])


def test_synthetic_cells_are_paler():
    size = morphology_figure([culture("A172", 900), culture("demo/A172", 700)]).axes[0]
    real, demo = (area.get_alpha() for area in size.collections)
    assert demo < real


def test_synthetic_cells_are_called_so():
    real, demo = culture("A172", 900), culture("demo/A172", 700)
    assert "SYNTHETIC" not in morphology_figure([real]).get_suptitle()
    assert morphology_figure([real, demo]).get_suptitle().endswith("SYNTHETIC cells, no real culture: demo/all")
    assert morphology_figure([demo]).get_suptitle().endswith("SYNTHETIC cells, no real culture: all")


def test_few_cells_are_drawn_one_by_one_and_none_is_said():
    few, none = culture("BV2", 100, 7), culture("SKOV3", 100, 0)
    figure = morphology_figure([culture("A172", 900), few, none])
    size = figure.axes[0]
    (ticks,) = [line for line in size.lines if line.get_marker() == "|"]
    assert np.sort(ticks.get_xdata()) == pytest.approx(np.sort(np.log10(few.area)))
    assert "no cell" in words(size)
    assert "Types with fewer than 20 cells: a tick for each cell." in figure.get_supxlabel()
    with pytest.raises(InputError, match="there is no cell to draw"):
        morphology_figure([none])


def test_what_the_axis_leaves_out_is_said():
    own = replace(culture("A172", 900, 1000), convexity=np.linspace(0.73, 1, 1000))
    figure = morphology_figure([own])
    assert figure.axes[1].get_xlim() == (0.7, 1.0)
    assert "Not shown" not in figure.get_supxlabel()
    for odd, said in ((1, "1 cell"), (4, "4 cells")):
        convexity = np.where(np.arange(1000) < odd, 0.1, own.convexity)
        figure = morphology_figure([replace(own, convexity=convexity)])
        assert figure.axes[1].get_xlim() == (0.7, 1.0)
        assert f"Not shown: {said} with a convexity below 0.70." in figure.get_supxlabel()


def test_vertices_are_a_third_column_where_there_are_polygons():
    own = replace(culture("A172", 900), vertices=np.random.default_rng(3).integers(8, 60, 400))
    bare = replace(culture("demo/A172", 700), vertices=np.zeros(400, np.int64))
    figure = morphology_figure([own, bare])
    assert words(figure.axes[2]) == [f"{np.median(own.vertices):.0f}", "no polygon", "median"]
    assert len(morphology_figure([bare]).axes) == 2


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_files_by_suffix_and_equal_for_equal_cells(tmp_path, suffix, start):
    types = [culture("A172", 900), culture("BV2", 150)]
    path = tmp_path / "deep" / f"f{suffix.upper()}"
    draw(types, path, title="t")
    content = path.read_bytes()
    assert content.startswith(start)
    assert content == figure_bytes(types, title="t", suffix=suffix)
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_cut_off_and_every_row_has_ink():
    types = [culture("A172", 900), culture("BV2", 150, 123456, seed=1), culture("SKOV3", 1500)]
    with Image.open(io.BytesIO(figure_bytes(types))) as picture:
        dark = np.asarray(picture.convert("L")) < 250
    assert not dark[:, :2].any()
    assert not dark[:, -2:].any()
    assert not dark[:2].any()
    assert not dark[-2:].any()


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected a name that ends in \.png, \.svg or \.pdf"):
        check_format(tmp_path / "f.jpg")
    with pytest.raises(InputError, match="ends in"):
        draw([culture("A172", 900)], tmp_path / "f.csv")
    assert not list(tmp_path.iterdir())


def test_matplotlib_is_loaded_for_drawing_only():
    code = "import sys, policy_search.cells.morphology_figure, policy_search.cli; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
