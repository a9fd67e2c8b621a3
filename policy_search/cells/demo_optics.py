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

from policy_search.cells.demo_shapes import Cell, Plane
from policy_search.cells.demo_types import Body, Culture

_GREY = 128.0  # background of a LIVECell frame
_SOFT = 0.7  # px: membranes are not cut along pixels
_LAP = 1.2  # px: annotators draw the outline around the bright rim, the body begins this far inside
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
    _add_debris(phase, cells, culture.crowd.debris, rng)
    relative = phase_contrast(phase, culture.body.halo, light.blur)
    image = _GREY * (1 + culture.body.gain * light.gain * relative)
    image += _illumination(light, tall, wide, rng)
    image += _noise(image, light.noise, rng)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


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
    """Sum of the cells' thickness, with nuclei and granules."""
    phase = np.zeros((tall, wide), np.float32)
    grainy = np.zeros((tall, wide), np.float32)
    for cell in cells:
        thickness, grains = _thickness(cell, body, rng)
        phase[cell.window] += thickness
        np.maximum(grainy[cell.window], grains, out=grainy[cell.window])
    phase = np.asarray(cv2.GaussianBlur(phase, (0, 0), _SOFT))
    fine = _granules(tall, wide, 0.07, 0.55, rng)
    coarse = _granules(tall, wide, 0.02, 1.0, rng)
    phase += grainy * (body.grain * fine + body.clump * coarse)
    return phase


def _thickness(cell: Cell, body: Body, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """(h, w) phase of one cell and (h, w) weight of its granules."""
    depth = cell.depth
    middle = max(float(depth.max()), 1.0)
    rim, dome = (body.rounded_rim, body.rounded_dome) if cell.rounded else (body.rim, body.dome)
    strength = float(np.exp(rng.normal(0, 0.18)))
    inside = depth**2 / (depth + _LAP)
    edge = 1 - np.exp(-inside / body.ramp)
    thickness = rim * edge + dome * (1 - (1 - depth / middle) ** 2)
    grains = edge * np.float32(np.exp(rng.normal(0, 0.35)))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    ys, xs = np.ogrid[: depth.shape[0], : depth.shape[1]]
    squeeze = rng.uniform(0.75, 1.0)
    angle = rng.uniform(0, np.pi)
    across = (xs - x) * np.cos(angle) + (ys - y) * np.sin(angle)
    along = (ys - y) * np.cos(angle) - (xs - x) * np.sin(angle)
    nucleus_radius = min(0.62 * middle, 9.0) + 0.5
    away = np.sqrt((across / squeeze) ** 2 + along**2) / nucleus_radius
    if not cell.rounded:
        nucleus = np.clip((1.15 - away) / 0.3, 0, 1)
        thickness += body.nucleus * nucleus
        near = np.exp(-((np.maximum(away - 1.3, 0) / 1.2) ** 2))
        grains *= (1 - body.perinuclear) + body.perinuclear * near
        grains *= 1 - 0.6 * nucleus
    for _ in range(int(rng.integers(1, 4))):
        turn, out = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.65) * nucleus_radius
        dot = (xs - x - out * np.cos(turn)) ** 2 + (ys - y - out * np.sin(turn)) ** 2
        thickness += body.nucleoli * rng.uniform(0.5, 1.2) * np.exp(-dot / (2 * rng.uniform(0.8, 1.3) ** 2))
    thickness *= strength * cell.mask
    return thickness.astype(np.float32), (grains * cell.mask).astype(np.float32)


def _granules(tall: int, wide: int, share: float, sigma: float, rng: np.random.Generator) -> Plane:
    """(H, W) dots of one size: unit height for a lone dot, zero mean, a quarter of them thinner than their surroundings."""
    draw = rng.random((tall, wide), np.float32)
    dots = np.where(draw < 0.75 * share, 1.0, np.where(draw > 1 - 0.25 * share, -1.0, 0.0)).astype(np.float32)
    dots *= rng.random((tall, wide), np.float32) + 0.25
    field = cv2.GaussianBlur(dots, (0, 0), sigma) * np.float32(2 * np.pi * sigma**2)
    return np.asarray(field - field.mean())


def _add_debris(phase: Plane, cells: Sequence[Cell], density: float, rng: np.random.Generator) -> None:
    """Specks of dead cells and dust on the dish: small dots and short threads, in place."""
    tall, wide = phase.shape
    for _ in range(int(rng.poisson(density * tall * wide / 65536))):
        x, y = rng.uniform(3, wide - 4), rng.uniform(3, tall - 4)
        heading = rng.uniform(0, 2 * np.pi)
        for _ in range(int(rng.geometric(0.65))):
            sigma, height = rng.uniform(0.6, 1.3), rng.uniform(0.15, 0.7)
            cx, cy = int(np.clip(x, 4, wide - 5)), int(np.clip(y, 4, tall - 5))
            ys, xs = np.ogrid[cy - 4 : cy + 5, cx - 4 : cx + 5]
            phase[cy - 4 : cy + 5, cx - 4 : cx + 5] += height * np.exp(
                -((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2)
            )
            heading += rng.normal(0, 0.6)
            x, y = x + 2.5 * np.cos(heading), y + 2.5 * np.sin(heading)


def _illumination(light: Light, tall: int, wide: int, rng: np.random.Generator) -> Plane:
    """(H, W) grey levels: what flat-field correction leaves of uneven light, and the faint scratches of a plastic dish."""
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
