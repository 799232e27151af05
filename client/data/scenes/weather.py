"""From a painted canvas to a photograph: texture, halos, light, rain, lens and sensor."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from client.data.scenes.dice import Dice
from client.data.scenes.draw import SUPERSAMPLE, Pen
from client.data.scenes.look import Domain

Picture = npt.NDArray[np.float32]

_ROUGH = np.array(
    # road, sidewalk, building, wall, fence, pole, light, sign, vegetation, terrain, sky, then movers
    [0.05, 0.05, 0.05, 0.08, 0.06, 0.03, 0.02, 0.02, 0.14, 0.08, 0.012, *[0.03] * 8],
    np.float32,
)
"""Texture's standard deviation of brightness by class."""


def photograph(pen: Pen, dice: Dice) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return image (height, width, 3) and labels (height, width), both uint8, of a painted canvas."""
    domain, canvas = pen.domain, pen.canvas
    height, width = canvas.shape[0] // SUPERSAMPLE, canvas.shape[1] // SUPERSAMPLE
    middle = SUPERSAMPLE // 2
    labels = np.ascontiguousarray(canvas[middle::SUPERSAMPLE, middle::SUPERSAMPLE, 3])
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    image = small[..., :3].astype(np.float32)
    image *= _texture(domain, dice, labels)[..., None]
    if domain.glow:
        image += _halos(pen, height, width)
    image = _grade(domain, image)
    if domain.rain:
        _rain(domain, dice, image)
    if domain.blur:
        image = _lens(domain, dice, image)
    if domain.noise:
        image += np.float32(domain.noise) * dice.generator.standard_normal(image.shape, np.float32)
    return np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8), labels


def _texture(domain: Domain, dice: Dice, labels: npt.NDArray[np.uint8]) -> Picture:
    """Return a brightness factor for each pixel: coarse blotches and fine grain, stronger on leaves and earth."""
    height, width = labels.shape
    grid = (24, 24 * width // height)
    coarse = cv2.resize(dice.generator.standard_normal(grid, np.float32), (width, height))
    fine = cv2.resize(dice.generator.standard_normal((64, 64 * width // height), np.float32), (width, height))
    rough = _ROUGH[labels] * np.float32(domain.texture)
    return np.asarray(1 + rough * (coarse + np.float32(0.7) * fine), np.float32)


def _halos(pen: Pen, height: int, width: int) -> Picture:
    """Return the light that lamps scatter into the lens: a tight core and a wide faint veil each.

    Halos are smooth, so half the resolution is enough.
    """
    light = np.zeros((height // 2, width // 2, 3), np.float32)
    rows = (np.arange(height // 2, dtype=np.float32) * 2 + 1) / height
    columns = (np.arange(width // 2, dtype=np.float32) * 2 + 1 - width / 2) / height
    for lamp in pen.lamps:
        size = max(lamp.radius, 0.02)
        down, over = -0.5 * ((rows - lamp.row) / size) ** 2, -0.5 * ((columns - lamp.column) / size) ** 2
        veil = np.outer(0.9 * np.exp(down / 0.3), np.exp(over / 0.3))
        veil += np.outer(0.28 * np.exp(down / 3.6), np.exp(over / 3.6))
        light += veil[..., None] * (np.float32(lamp.power * pen.domain.glow) * np.asarray(lamp.colour, np.float32))
    return np.asarray(cv2.resize(light, (width, height)), np.float32)


def _grade(domain: Domain, image: Picture) -> Picture:
    """Apply colour cast, saturation and contrast as one 3 × 3 matrix and an offset."""
    grey = np.full((3, 3), 1 / 3, np.float32)
    keep = np.float32(domain.saturation)
    matrix = (np.eye(3, dtype=np.float32) * keep + grey * (1 - keep)) * np.float32(domain.contrast)
    matrix = np.asarray(domain.cast, np.float32)[:, None] * matrix
    pivot = np.float32((1 - domain.contrast) * (128 if domain.ambient > 0.8 else 30))
    graded = cv2.transform(image, matrix) + pivot
    return np.asarray(graded, np.float32)


def _rain(domain: Domain, dice: Dice, image: Picture) -> None:
    """Draw streaks of rain, all blown the same way, into the image."""
    height, width = image.shape[:2]
    number = int(domain.rain * 100 * width / height / 2 * dice.between(0.3, 1.3))
    slant = dice.between(-0.35, 0.35)
    places = dice.generator.random((number, 3))
    unit = height * 16
    veil = np.zeros((height, width), np.uint8)
    for across, down, long in places:
        x, y, reach = across * width * 16, down * unit, (0.03 + 0.07 * long) * unit
        start, end = (round(x), round(y)), (round(x + slant * reach), round(y + reach))
        cv2.line(veil, start, end, 90, max(1, height // 96), cv2.LINE_AA, 4)
    image += veil[..., None].astype(np.float32) * np.float32(0.5)


def _lens(domain: Domain, dice: Dice, image: Picture) -> Picture:
    """Blur as an imperfect lens does; the amount varies from picture to picture."""
    sigma = domain.blur * dice.between(0.6, 1.4) * image.shape[0]
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32) if sigma > 0.2 else image
