"""Phase contrast of the demo culture: cells become optical phase, phase becomes an 8-bit image.

Zernike's method in two Gaussian filters: the phase ring passes the part of the wave that varies slowly (`halo`), turns
it by a quarter of a wave against the rest, and the two interfere. Dark bodies, bright halos, grey middles of large flat
cells ("shade-off") and glaring rounded cells all follow from the thickness, as in the microscope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from policy_search.cells.demo_crowd import Cell, Plane
from policy_search.cells.demo_types import Body, Culture

_GREY = 128.0  # background of a LIVECell frame
_SOFT = 0.5  # px: membranes are not cut along pixels
_LAP = 1.0  # px: annotators draw the outline around the bright rim, the body begins this far inside
_RING = 0.8  # amplitude that the phase ring passes


@dataclass(frozen=True)
class Light:
    """What the images of one well have in common.

    Attributes:
        gain: contrast relative to the culture's own.
        blur: sigma of the optics, pixels.
        tilt: grey levels by which the illumination rises from the centre to the frame's edge, along x and y.
        vignette: grey levels by which it falls towards the corners.
        noise: standard deviation of the camera's noise, grey levels.
    """

    gain: float
    blur: float
    tilt: tuple[float, float]
    vignette: float
    noise: float


def photograph(
    cells: Sequence[Cell], culture: Culture, light: Light, tall: int, wide: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(tall, wide) uint8 image of the padded plane."""
    phase = _phase(cells, culture.body, tall, wide, rng)
    _add_debris(phase, culture.crowd.debris, rng)
    relative = phase_contrast(phase, culture.body.halo, light.blur)
    image = _GREY * (1 + culture.body.gain * light.gain * relative)
    image += _illumination(light, tall, wide, rng)
    image += _noise(image, light.noise, rng)
    grey: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return grey


def phase_contrast(phase: Plane, halo: float, blur: float) -> Plane:
    """Intensity relative to the empty dish, minus 1, of a phase object (H, W) in radians.

    Positive phase contrast: with u = exp(i·phase) and its slow part v, I = |u - v - i·a·v|² / a².
    """
    real, imaginary = np.cos(phase), np.sin(phase)
    slow_real = cv2.GaussianBlur(real, (0, 0), halo)
    slow_imaginary = cv2.GaussianBlur(imaginary, (0, 0), halo)
    field_real = real - slow_real + _RING * slow_imaginary
    field_imaginary = imaginary - slow_imaginary - _RING * slow_real
    intensity = (field_real**2 + field_imaginary**2) / _RING**2 - 1
    return np.asarray(cv2.GaussianBlur(intensity, (0, 0), blur))


def _phase(cells: Sequence[Cell], body: Body, tall: int, wide: int, rng: np.random.Generator) -> Plane:
    """Optical phase of the whole culture: spread cells, those that ride on them, nucleoli and granules."""
    phase = np.zeros((tall, wide), np.float32)
    grainy = np.zeros((tall, wide), np.float32)
    for sheet in ([c for c in cells if not c.riding], [c for c in cells if c.riding]):
        if sheet:
            _lay(sheet, body, phase, grainy, rng)
    phase = np.asarray(cv2.GaussianBlur(phase, (0, 0), _SOFT))
    fine = _skewed_noise(tall, wide, 0.6, 0.5, rng)
    coarse = _skewed_noise(tall, wide, 1.1, 0.9, rng)
    phase += grainy * (body.grain * fine + body.clump * coarse)
    return phase


def _lay(sheet: Sequence[Cell], body: Body, phase: Plane, grainy: Plane, rng: np.random.Generator) -> None:
    """Add cells that lie side by side: their thickness to `phase`, the weight of their granules to `grainy`.

    All pixels are worked on at once; where edges lap the cell that is deeper there counts.
    """
    depth = np.zeros_like(phase)
    owner = np.zeros(phase.shape, np.int32)
    centre = np.zeros((len(sheet), 2), np.float32)
    middle = np.zeros(len(sheet), np.float32)
    for index, cell in enumerate(sheet):
        deeper = cell.depth > depth[cell.window]
        depth[cell.window][deeper] = cell.depth[deeper]
        owner[cell.window][deeper] = index
        row, column = divmod(int(cell.depth.argmax()), cell.depth.shape[1])
        centre[index] = column + cell.x0, row + cell.y0
        middle[index] = max(float(cell.depth[row, column]), 1.0)
    count = len(sheet)
    round_up = np.array([cell.rounded for cell in sheet])
    rim = np.where(round_up, body.rounded_rim, body.rim) * np.exp(rng.normal(0, 0.2, count))
    dome = np.where(round_up, body.rounded_dome, body.dome)
    fringe = np.where(round_up, body.rounded_fringe, body.fringe) * np.exp(rng.normal(0, 0.2, count))
    angle, squeeze = rng.uniform(0, np.pi, count), rng.uniform(0.7, 1.0, count)
    nucleus_radius = np.minimum(0.6 * middle, 8.5) * rng.uniform(0.85, 1.15, count) + 0.5
    nucleus_phase = np.where(round_up, 0.0, body.nucleus) * rng.uniform(0.6, 1.4, count)
    richness = np.exp(rng.normal(0, 0.3, count))

    # An edge is not equally steep all around: bright in some stretches, lost in others.
    patchy = cv2.GaussianBlur(rng.standard_normal(phase.shape, np.float32), (0, 0), 4)
    rows, columns = np.nonzero(depth)
    patches = np.clip(1 + 0.55 / float(patchy.std()) * patchy[rows, columns], 0, None)
    who = owner[rows, columns]
    # A distance map of a pixel mask has steps; smoothed it runs along the outline.
    deep = cv2.GaussianBlur(depth, (0, 0), 0.8)[rows, columns]
    dx, dy = columns - centre[who, 0], rows - centre[who, 1]
    c, s = np.cos(angle).astype(np.float32)[who], np.sin(angle).astype(np.float32)[who]
    across = (dx * c + dy * s) / squeeze.astype(np.float32)[who]
    away = np.sqrt(across**2 + (dy * c - dx * s) ** 2)
    radius = nucleus_radius.astype(np.float32)[who]
    edge = 1 - np.exp(-((np.maximum(deep - _LAP, 0.3) / body.ramp) ** 2))
    nucleus = np.clip(radius - away + 0.5, 0, 1)
    phase[rows, columns] += (
        rim[who] * edge
        - fringe[who] * patches * np.exp(-((deep - 0.8) ** 2) / 0.8)
        + dome[who] * (1 - (1 - deep / middle[who]) ** 2)
        + nucleus_phase[who] * nucleus
    )
    near = np.exp(-((np.maximum(away - radius - 1, 0) / (1.1 * radius)) ** 2))
    weight = richness[who] * edge * (1 - body.perinuclear * (1 - near))
    grainy[rows, columns] = weight * np.where(round_up[who], 1, 1 - 0.55 * nucleus)

    dots = rng.integers(1, 4, count)
    whose = np.repeat(np.arange(count), dots)
    turn, out = rng.uniform(0, 2 * np.pi, len(whose)), rng.uniform(0.1, 0.6, len(whose)) * nucleus_radius[whose]
    x = np.rint(centre[whose, 0] + out * np.cos(turn)).astype(int).clip(0, phase.shape[1] - 1)
    y = np.rint(centre[whose, 1] + out * np.sin(turn)).astype(int).clip(0, phase.shape[0] - 1)
    impulses = np.zeros_like(phase)
    impulses[y, x] = body.nucleoli * rng.uniform(0.5, 1.2, len(whose)) * (2 * np.pi)
    phase += cv2.GaussianBlur(impulses, (0, 0), 1.0)


def _skewed_noise(tall: int, wide: int, sigma: float, skew: float, rng: np.random.Generator) -> Plane:
    """(H, W) zero mean, unit variance texture of one grain size; `skew` > 0 makes it dark spots on a light ground."""
    smooth = cv2.GaussianBlur(rng.standard_normal((tall, wide), np.float32), (0, 0), sigma)
    spots = np.exp(skew / float(smooth.std()) * smooth)
    return np.asarray((spots - spots.mean()) / spots.std())


def _add_debris(phase: Plane, density: float, rng: np.random.Generator) -> None:
    """Specks of dead cells and dust on the dish: small dots and short threads, in place."""
    tall, wide = phase.shape
    for _ in range(int(rng.poisson(density * tall * wide / 65536))):
        x, y = rng.uniform(3, wide - 4), rng.uniform(3, tall - 4)
        heading = rng.uniform(0, 2 * np.pi)
        for _ in range(int(rng.geometric(0.65))):
            sigma, height = rng.uniform(0.6, 1.2), rng.uniform(0.1, 0.35)
            cx, cy = int(np.clip(x, 4, wide - 5)), int(np.clip(y, 4, tall - 5))
            ys, xs = np.ogrid[cy - 4 : cy + 5, cx - 4 : cx + 5]
            phase[cy - 4 : cy + 5, cx - 4 : cx + 5] += height * np.exp(
                -((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2)
            )
            heading += rng.normal(0, 0.6)
            x, y = x + 2.5 * np.cos(heading), y + 2.5 * np.sin(heading)


def _illumination(light: Light, tall: int, wide: int, rng: np.random.Generator) -> Plane:
    """(H, W) grey levels: what flat-field correction leaves of uneven light, and faint scratches of the dish."""
    ys, xs = np.linspace(-1, 1, tall)[:, None], np.linspace(-1, 1, wide)[None]
    shade = light.tilt[0] * xs + light.tilt[1] * ys - light.vignette * (xs**2 + ys**2 - 2 / 3) / 2
    angle = rng.uniform(0, np.pi)
    across = np.arange(wide)[None] * np.cos(angle) + np.arange(tall)[:, None] * np.sin(angle)
    profile = rng.normal(0, 0.35, tall + wide + 2).astype(np.float32)
    scratches = profile[(across - across.min()).astype(np.intp)]
    return np.asarray(shade + scratches, np.float32)


def _noise(image: Plane, sigma: float, rng: np.random.Generator) -> Plane:
    """(H, W) camera noise: shot noise grows with the light, and demosaicing ties neighbours together a little."""
    raw = rng.standard_normal(image.shape, np.float32)
    tied = cv2.GaussianBlur(raw, (0, 0), 0.42) * np.float32(1.25)
    return np.asarray(sigma * np.sqrt(np.maximum(image, 16) / _GREY) * tied)
