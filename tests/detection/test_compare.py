"""Comparisons against a slow bootstrap that scores every resample by itself, and what they say of gaps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detection.compare import against, compare, every_pair
from detection.matches import ImageMatches, average_precision
from detection.statistics.bootstrap import draw_units
from detection.statistics.resamples import Runs, resample
from policy_search.cells.errors import InputError
from tests.detection.compared import runs

SKILLS = {"none": 0.45, "flip": 0.6, "crop": 0.4, "ours": 0.75}


@pytest.fixture(scope="module")
def measured() -> Runs:
    return runs(SKILLS)


def slow_points(found: Runs, row: str, other: str, name: str) -> np.ndarray:
    """(S,) effect of each seed."""
    return np.array(
        [average_precision(found.images[row, s][name]) - average_precision(found.images[other, s][name])
         for s in found.seeds]
    )  # fmt: skip


def slow_draws(found: Runs, row: str, other: str, name: str, draws: int, seed: int) -> np.ndarray:
    """(B, S) effect of each seed on each resample, which is written out image by image."""
    images = found.images[row, found.seeds[0]][name]
    names = [image.well for image in images]
    if len(set(names)) == 1:
        names = [image.image for image in images]
    units = list(dict.fromkeys(names))
    counts = draw_units(len(units), draws, np.random.default_rng([seed, *name.encode()]))

    def ap50(own: list[ImageMatches], drawn: np.ndarray) -> float:
        return average_precision(
            [image for unit, times in zip(units, drawn, strict=True) for _ in range(times)
             for image, label in zip(own, names, strict=True) if label == unit]
        )  # fmt: skip

    return np.array(
        [[ap50(found.images[row, s][name], d) - ap50(found.images[other, s][name], d) for s in found.seeds]
         for d in counts]
    )  # fmt: skip


def slow_interval(points: np.ndarray, parts: list[tuple[np.ndarray, int]], types: int) -> tuple[float, float, float]:
    """Interval and p of the mean over `types` types, as the formula in `estimate` says."""
    n = len(points)
    a = points.var(ddof=1) / n
    own = [d.mean(1).var() / types**2 for d, _ in parts]
    rest = sum((d - d.mean(1, keepdims=True)).var(0).sum() for d, _ in parts) / types**2 / n / (n - 1)
    df = (a + sum(own)) ** 2 / (a**2 / (n - 1) + sum(v**2 / (k - 1) for v, (_, k) in zip(own, parts, strict=True)))
    error = np.sqrt(max(a + sum(own) - rest, a, sum(own)))
    half = stats.t.ppf(0.975, df) * error
    return points.mean() - half, points.mean() + half, 2 * stats.t.sf(abs(points.mean()) / error, df)


def test_effects_and_mean_gain_equal_the_slow_bootstrap(measured):
    found = compare(measured, draws=200, seed=5)
    contrast = found.contrasts["flip"]
    units = {"A172": 3, "BT474": 4, "BV2": 3, "SKOV3": 0}
    points, parts = [], []
    for name, count in units.items():
        own = slow_points(measured, "flip", "none", name)
        part = [(slow_draws(measured, "flip", "none", name, 200, 5), count)] if count else []
        low, high, p = slow_interval(own, part, 1)
        estimate = contrast.types[name]
        np.testing.assert_allclose(
            (estimate.value, estimate.low, estimate.high, estimate.p), (own.mean(), low, high, p), rtol=0, atol=1e-12
        )
        if name != "A172":
            points.append(own)
            parts += part
    low, high, p = slow_interval(np.mean(points, axis=0), parts, 3)
    gain = contrast.gain
    np.testing.assert_allclose((gain.value, gain.low, gain.high, gain.p), (np.mean(points), low, high, p), atol=1e-12)


def test_scores_are_means_over_seeds(measured):
    found = compare(measured, draws=100)
    values = np.array([[average_precision(measured.images["ours", s][t]) for t in found.types] for s in (0, 1, 2)])
    own = found.scores["ours"]
    np.testing.assert_allclose([own.types[t].mean for t in found.types], values.mean(0), atol=1e-12)
    np.testing.assert_allclose([own.types[t].sd for t in found.types], values.std(0, ddof=1), atol=1e-12)
    assert found.types == ("A172", "BT474", "BV2", "SKOV3")
    assert own.unseen.mean == pytest.approx(values[:, 1:].mean())
    assert own.unseen.sd == pytest.approx(values[:, 1:].mean(1).std(ddof=1))
    assert (own.seeds, own.missing) == ((0, 1, 2), ())


def test_units_are_wells_or_images_of_one_well_or_nothing(measured):
    units = compare(measured, draws=100).units
    assert {name: (u.kind, u.count, u.images, u.cells) for name, u in units.items()} == {
        "A172": ("wells", 3, 4, 240),
        "BT474": ("wells", 4, 4, 240),
        "BV2": ("images", 3, 3, 180),
        "SKOV3": ("none", 1, 1, 60),
    }


def test_wells_without_cells_are_drawn_but_do_not_count():
    """Two wells of three have cells; a resample of the empty one alone has no AP50."""
    found = runs({"none": 0.4, "flip": 0.6}, wells={"A172": ("a", "b"), "BV2": ("x", "y", "z")})
    for types in found.images.values():
        last = types["BV2"][2]
        types["BV2"][2] = ImageMatches(last.image, last.well, 0, last.scores, np.zeros_like(last.hits))
    scored = resample(found, draws=400, seed=0)
    assert (scored.units["BV2"].kind, scored.units["BV2"].count) == ("wells", 2)
    drawn = scored.draws["flip", 0, "BV2"]
    assert not np.isnan(drawn).any()
    assert 300 < len(drawn) < 400
    assert compare(found, draws=400).contrasts["flip"].types["BV2"].low is not None
    for types in found.images.values():
        empty = types["BV2"][1]
        types["BV2"][1] = ImageMatches(empty.image, empty.well, 0, empty.scores, np.zeros_like(empty.hits))
    assert resample(found, draws=400, seed=0).units["BV2"].kind == "none"


def test_a_type_without_any_cell_is_left_out():
    found = runs({"none": 0.4, "flip": 0.6}, wells={"A172": ("a", "b"), "BV2": ("x", "y")})
    for types in found.images.values():
        types["MCF7"] = [ImageMatches("m", "m", 0, np.ones(1, np.float32), np.zeros(1, bool))]
    assert compare(found, draws=100).types == ("A172", "BV2")


def test_holm_spans_rows_for_gains_and_rows_by_unseen_types_for_effects(measured):
    found = compare(measured, draws=300)
    assert list(found.contrasts) == ["flip", "crop", "ours"]
    gains = [c.gain for c in found.contrasts.values()]
    _expect_holm([g.p for g in gains], [g.adjusted for g in gains])
    effects = [e for c in found.contrasts.values() for t, e in c.types.items() if t != "A172"]
    assert len(effects) == 9
    _expect_holm([e.p for e in effects], [e.adjusted for e in effects])
    seen = [c.types["A172"] for c in found.contrasts.values()]
    _expect_holm([e.p for e in seen], [e.adjusted for e in seen])


def _expect_holm(values: list[float], adjusted: list[float]) -> None:
    order = np.argsort(values)
    steps = np.maximum.accumulate(np.array(values)[order] * np.arange(len(values), 0, -1))
    np.testing.assert_allclose(np.array(adjusted)[order], np.minimum(steps, 1))


def test_counts_are_of_unseen_types(measured):
    found = compare(measured, draws=300)
    for contrast in found.contrasts.values():
        unseen = {t: contrast.types[t] for t in ("BT474", "BV2", "SKOV3")}
        assert contrast.unseen == tuple(unseen)
        assert contrast.improved == sum(e.value > 0 for e in unseen.values())
        assert contrast.better == tuple(t for t, e in unseen.items() if e.adjusted < 0.05 and e.value > 0)
        assert contrast.worse == tuple(t for t, e in unseen.items() if e.adjusted < 0.05 and e.value < 0)
        assert contrast.types[contrast.worst].value == min(e.value for e in unseen.values())
    assert found.contrasts["ours"].improved == 3
    assert found.contrasts["ours"].better
    assert found.contrasts["crop"].improved < 3
    # The other way round, better is worse.
    reverse = compare(measured._replace(reference="ours"), draws=300).contrasts["none"]
    assert reverse.worse
    assert not reverse.better


def test_missing_seeds_are_said_and_only_shared_ones_are_compared(measured):
    images = {k: v for k, v in measured.images.items() if k not in {("flip", 1), ("none", 0)}}
    images["crop", 2] = {t: own for t, own in images["crop", 2].items() if t != "BV2"}
    found = compare(measured._replace(images=images), draws=100)
    assert (found.scores["flip"].seeds, found.scores["flip"].missing) == ((0, 2), (1,))
    assert found.scores["crop"].missing == (2,)
    flip = found.contrasts["flip"]
    assert flip.gain.seeds == (2,)
    assert flip.types["BV2"].value == pytest.approx(slow_points(measured, "flip", "none", "BV2")[2])
    crop = found.contrasts["crop"]
    assert crop.types["BV2"].seeds == (1,)
    assert crop.types["BT474"].seeds == (1, 2)
    assert crop.gain.seeds == (1,)
    assert found.scores["crop"].unseen.seeds == (0, 1)


def test_a_row_that_was_not_run_has_no_effect(measured):
    images = {k: v for k, v in measured.images.items() if k[0] != "crop"}
    found = compare(measured._replace(images=images), draws=100)
    assert list(found.contrasts) == ["flip", "ours"]
    assert found.scores["crop"].seeds == ()
    # Not one of the family, then.
    assert max(c.gain.adjusted / c.gain.p for c in found.contrasts.values()) <= 2 + 1e-9


def test_a_row_without_one_unseen_type_has_no_mean_gain(measured):
    images = {k: {t: v for t, v in own.items() if k[0] != "flip" or t != "SKOV3"}
              for k, own in measured.images.items()}  # fmt: skip
    found = compare(measured._replace(images=images), draws=100)
    assert found.contrasts["flip"].gain is None
    assert found.contrasts["flip"].unseen == ("BT474", "BV2")
    assert found.contrasts["ours"].gain is not None


def test_one_seed_and_one_image_have_no_interval():
    found = compare(runs({"none": 0.4, "flip": 0.6}, seeds=(3,)), draws=100)
    contrast = found.contrasts["flip"]
    assert contrast.types["SKOV3"].low is None
    assert contrast.types["SKOV3"].adjusted is None
    assert contrast.types["BT474"].low is not None
    # Without SKOV3's spread the mean's would be too narrow.
    assert contrast.gain.value == pytest.approx(np.mean([contrast.types[t].value for t in contrast.unseen]))
    assert contrast.gain.low is None
    assert found.scores["flip"].types["BT474"].sd is None


def test_pairs_are_a_family_of_their_own(measured):
    pairs = every_pair(["ours"], ["flip", "crop", "ours"])
    assert pairs == (("ours", "flip"), ("ours", "crop"))
    found = compare(measured, pairs=pairs, draws=300)
    assert [(c.row, c.other) for c in found.rivals] == list(pairs)
    gains = [c.gain for c in found.rivals]
    _expect_holm([g.p for g in gains], [g.adjusted for g in gains])
    own = [slow_points(measured, "ours", "flip", t).mean() for t in ("BT474", "BV2", "SKOV3")]
    assert gains[0].value == pytest.approx(np.mean(own))
    assert [c.gain for c in found.contrasts.values()] == [
        c.gain for c in compare(measured, draws=300).contrasts.values()
    ]


def test_two_rows_alone_are_compared_on_the_same_draws_without_correction_for_others(measured):
    alone = against(measured, "ours", "flip", draws=300)
    pair = compare(measured, pairs=[("ours", "flip"), ("ours", "crop")], draws=300).rivals[0]
    assert (alone.row, alone.other) == ("ours", "flip")
    assert alone.gain._replace(adjusted=None) == pair.gain._replace(adjusted=None)
    assert alone.gain.adjusted == alone.gain.p


def test_draws_depend_on_the_seed_and_on_nothing_else(measured):
    once, again = (compare(measured, draws=100, seed=1) for _ in range(2))
    assert once == again
    assert compare(measured, draws=100, seed=2).contrasts != once.contrasts
    fewer = {k: {t: v for t, v in own.items() if t != "A172"} for k, own in measured.images.items()}
    assert compare(measured._replace(images=fewer), draws=100, seed=1).contrasts["flip"].gain.p == pytest.approx(
        once.contrasts["flip"].gain.p, rel=1e-12
    )


def test_other_images_cannot_be_compared(measured):
    images = dict(measured.images)
    own = dict(images["flip", 1])
    own["BV2"] = own["BV2"][:2]
    images["flip", 1] = own
    with pytest.raises(InputError, match="BV2: flip with seed 1 was tested on other images"):
        compare(measured._replace(images=images), draws=100)


def test_bad_input_is_one_sentence(measured):
    with pytest.raises(InputError, match="no row 'mosaic': expected one of none, flip, crop, ours"):
        compare(measured, pairs=[("ours", "mosaic")])
    with pytest.raises(InputError, match="no row 'mosaic'"):
        against(measured, "mosaic", "flip")
    with pytest.raises(InputError, match="level of at least"):
        compare(measured, level=95)
    with pytest.raises(InputError, match="at least 100 draws"):
        compare(measured, draws=10)
    images = {k: v for k, v in measured.images.items() if k[0] != "none"}
    with pytest.raises(InputError, match="no finished run of none from A172"):
        compare(measured._replace(images=images))
