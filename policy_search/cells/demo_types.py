"""How each of the eight demo cell lines looks: size, outline, crowding and thickness, as one table.

The numbers are fitted so that median area, eccentricity, convexity and image contrast of the rendered cells follow
LIVECell's annotations (BV2, of which few annotations circulate, follows its images). Lengths are pixels at LIVECell's
own scale (520 × 704 frames); phases are radians of retardation.
"""

from __future__ import annotations

from dataclasses import dataclass

from policy_search.cells.types import cell_type


@dataclass(frozen=True)
class Outline:
    """Outline of a spread cell: `tips` corners around the centre, joined by arcs that sag towards it.

    Attributes:
        radius: median over cells of the mean corner distance, pixels, before neighbours take their share.
        radius_spread: sigma of its log-normal distribution.
        tips: fewest and most corners.
        tip_spread: sigma of the log-normal corner distance around the mean: 0 is a regular polygon.
        sag: 1 = circular arcs between corners, cos²(π / tips) = straight edges, below = concave edges.
        stretch: mean log aspect ratio (elongation) of the cell; its spread is `stretch_spread`.
        ruffle: unevenness of the edge, pixels (sigma).
        arms: mean number of corners drawn out into an arm of `arm_length` times the cell's mean corner distance.
        processes: mean number of thin (1-2 px) processes; of length `process_length` pixels.
    """

    radius: float
    radius_spread: float
    tips: tuple[int, int]
    tip_spread: float
    sag: float
    stretch: float
    stretch_spread: float
    ruffle: float = 0.0
    arms: float = 0.0
    arm_length: float = 2.0
    processes: float = 0.0
    process_length: float = 0.0


@dataclass(frozen=True)
class Crowd:
    """How cells share the dish.

    Attributes:
        cells: mean number of cell centres per 256 × 256 pixels in a medium well.
        range: densest over sparsest well is range².
        clinging: probability that a cell settles beside another one instead of anywhere.
        spacing: distance of neighbours' centres, in units of the sum of their radii; below 1 they press together.
        compact: True for round epithelial islands, False for straggling groups.
        order: 0 = cells point anywhere, 1 = all cells follow the local flow of the culture.
        rounded: fraction of rounded-up (dividing or loosely attached) cells.
        rounded_radius: their median radius, pixels.
        riding: fraction of rounded cells that lie on top of others: both are whole there (real overlap).
        debris: specks per 256 × 256 pixels.
    """

    cells: float
    range: float
    clinging: float
    spacing: float
    compact: bool
    order: float
    rounded: float
    rounded_radius: float
    riding: float
    debris: float


@dataclass(frozen=True)
class Body:
    """Thickness (as optical phase) of a cell and what is in it.

    Attributes:
        rim: phase reached just inside the edge, within about `ramp` pixels.
        ramp: width of the edge, pixels.
        dome: further phase added towards the middle of the cell.
        nucleus, nucleoli: phase of the nucleus and of the dots in it.
        grain: phase (standard deviation) of fine granules (0.6 px); `clump` of coarse ones (1.1 px).
        perinuclear: 0 = granules everywhere, 1 = around the nucleus only.
        fringe: phase taken away on the outline itself: the edge refracts light, which shows as a bright line.
        rounded_rim, rounded_dome, rounded_fringe: `rim`, `dome` and `fringe` of rounded cells.
        halo: width (sigma, pixels) of the light that the phase ring passes: the reach of halo and shade-off.
        gain: grey levels per unit of relative intensity, over 128.
    """

    rim: float
    ramp: float
    dome: float
    nucleus: float
    nucleoli: float
    grain: float
    clump: float
    perinuclear: float
    fringe: float
    rounded_rim: float
    rounded_dome: float
    rounded_fringe: float
    halo: float
    gain: float = 1.0


@dataclass(frozen=True)
class Culture:
    """One cell line of the demo culture; `column` is its first column on the plate (as in LIVECell's well names)."""

    name: str
    column: int
    outline: Outline
    crowd: Crowd
    body: Body


_CULTURES = (
    Culture(
        "A172", 7,
        Outline(21.5, 0.29, (4, 6), 0.32, 0.48, 0.58, 0.28, 0.4, 1.1, 1.9, 0.4, 14),
        Crowd(25, 1.4, 0.6, 0.70, False, 0.5, 0.05, 8.5, 0.3, 4),
        Body(0.11, 0.9, 0.03, 0.06, 0.09, 0.06, 0.025, 0.4, 0.10, 0.35, 0.15, 0.35, 1.6),
    ),
    Culture(
        "BT474", 3,
        Outline(15.3, 0.22, (5, 7), 0.16, 0.70, 0.48, 0.24, 0.3),
        Crowd(26, 1.6, 0.80, 0.60, True, 0.1, 0.10, 8.5, 0.0, 14),
        Body(0.16, 0.9, 0.04, 0.09, 0.16, 0.07, 0.035, 0.2, 0.12, 0.35, 0.15, 0.35, 1.6),
    ),
    Culture(
        "BV2", 4,
        Outline(6.6, 0.13, (7, 9), 0.07, 0.96, 0.10, 0.08),
        Crowd(105, 1.6, 0.80, 0.84, False, 0.0, 0.30, 6.7, 0.12, 3),
        Body(0.36, 0.9, 0.02, 0.12, 0.10, 0.08, 0.12, 0.0, 0.18, 0.42, 0.1, 0.22, 1.5),
    ),
    Culture(
        "HUH7", 10,
        Outline(22.0, 0.33, (5, 7), 0.18, 0.70, 0.44, 0.24, 0.5),
        Crowd(11, 1.4, 0.62, 0.66, True, 0.1, 0.08, 8.5, 0.1, 3),
        Body(0.05, 0.9, 0.02, 0.10, 0.18, 0.085, 0.06, 0.8, 0.07, 0.35, 0.15, 0.30, 1.6),
    ),
    Culture(
        "MCF7", 4,
        Outline(10.8, 0.18, (5, 7), 0.10, 0.82, 0.45, 0.22),
        Crowd(95, 1.9, 0.96, 0.58, True, 0.15, 0.05, 6.8, 0.05, 3),
        Body(0.17, 0.9, 0.03, 0.12, 0.36, 0.06, 0.03, 0.1, 0.13, 0.5, 0.2, 0.4, 1.5),
    ),
    Culture(
        "SHSY5Y", 10,
        Outline(10.9, 0.26, (3, 5), 0.28, 0.32, 0.62, 0.28, 0.2, 1.6, 2.1, 2.0, 14),
        Crowd(60, 1.4, 0.75, 0.60, False, 0.6, 0.03, 6.5, 0.0, 3),
        Body(0.20, 0.9, 0.04, 0.06, 0.14, 0.035, 0.01, 0.0, 0.12, 0.4, 0.2, 0.3, 1.6),
    ),
    Culture(
        "SKBR3", 3,
        Outline(10.0, 0.18, (8, 10), 0.07, 0.96, 0.20, 0.13),
        Crowd(38, 1.4, 0.50, 0.90, False, 0.0, 0.72, 9.1, 0.15, 3),
        Body(0.22, 0.9, 0.03, 0.10, 0.12, 0.065, 0.04, 0.0, 0.14, 0.35, 0.06, 0.19, 1.8),
    ),
    Culture(
        "SKOV3", 4,
        Outline(22.0, 0.26, (5, 8), 0.24, 0.70, 0.48, 0.27, 0.5, 0.4, 1.8),
        Crowd(18, 1.9, 0.35, 0.78, False, 0.2, 0.08, 8.5, 0.5, 2),
        Body(0.08, 0.9, 0.03, 0.10, 0.20, 0.038, 0.01, 0.5, 0.07, 0.5, 0.2, 0.4, 1.8),
    ),
)  # fmt: skip

_BY_NAME = {culture.name: culture for culture in _CULTURES}


def culture(name: str) -> Culture:
    """The demo culture of a cell type, by any of its spellings.

    Raises:
        DataError: no such cell type.
    """
    return _BY_NAME[cell_type(name).name]
