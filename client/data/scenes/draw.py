"""A pinhole camera and a pen that paints colour and label in the same stroke.

World: x to the right, y up from the ground, z away from the camera, in metres. Colours are fogged and lit by
their distance as they are painted, so no depth map is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from client.data.scenes.look import Colour, Domain

SUPERSAMPLE = 3
"""Canvas pixels for each picture pixel and axis: odd, so that a label is taken at the pixel's very centre."""
NEAR = 1.6
"""Nothing is painted nearer than this (m); points are clamped, so that polygons stay finite."""
_SUBPIXEL = 4


@dataclass(frozen=True)
class Camera:
    """A pinhole at ``(0, height, 0)`` looking along z; image units are picture heights."""

    horizon: float
    centre: float
    """Column of the vanishing point, in picture heights from the picture's middle."""
    focal: float = 1.0
    height: float = 1.55

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return (column from the middle, row from the top) in picture heights."""
        scale = self.focal / max(z, NEAR)
        return self.centre + x * scale, self.horizon + (self.height - y) * scale


@dataclass(frozen=True)
class Lamp:
    """A halo to be added after everything is painted; picture heights, colour 0…255."""

    column: float
    row: float
    radius: float
    colour: Colour
    power: float


class Pen:
    """Paints onto a canvas of shape (height, width, 4): RGB and the train id."""

    def __init__(self, size: tuple[int, int], camera: Camera, domain: Domain, haze: float) -> None:
        self.camera = camera
        self.domain = domain
        self.lamps: list[Lamp] = []
        self._haze = haze
        height, width = size
        self.canvas: npt.NDArray[np.uint8] = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE, 4), np.uint8)
        self._scale = height * SUPERSAMPLE * (1 << _SUBPIXEL)
        self._middle = width * SUPERSAMPLE * (1 << _SUBPIXEL) / 2

    def lit(self, paint: Colour, z: float, glowing: bool = False) -> Colour:
        """Return how a paint looks from z metres away: lamp light, then fog (Koschmieder's law)."""
        domain, fog = self.domain, self.domain.haze_colour
        clear = math.exp(-self._haze * z)
        veil = 1.0 - clear
        if not glowing:
            clear *= domain.ambient + (domain.headlight * math.exp(-z / 9.0) if domain.headlight else 0.0)
        return (
            paint[0] * clear + fog[0] * veil,
            paint[1] * clear + fog[1] * veil,
            paint[2] * clear + fog[2] * veil,
        )

    def fill(self, corners: Iterable[tuple[float, float, float]], colour: Colour, label: int) -> None:
        """Fill a polygon of world corners (x, y, z) with a finished colour."""
        camera, scale = self.camera, self._scale
        left, top = camera.centre * scale + self._middle, camera.horizon * scale
        reach, eye = camera.focal * scale, camera.height
        points = []
        for x, y, z in corners:
            size = reach / (z if z > NEAR else NEAR)
            points.append((int(left + x * size), int(top + (eye - y) * size)))
        paint = (min(colour[0], 255.0), min(colour[1], 255.0), min(colour[2], 255.0), label)
        cv2.fillPoly(self.canvas, [np.array(points, np.int32)], paint, cv2.LINE_8, _SUBPIXEL)

    def shape(
        self,
        points: Sequence[tuple[float, float]],
        z: float,
        paint: Colour,
        label: int,
        glowing: bool = False,
    ) -> None:
        """Fill a polygon that faces the camera: (x, y) corners, all z metres away."""
        self.fill([(x, y, z) for x, y in points], self.lit(paint, z, glowing), label)

    def face(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: float,
        paint: Colour,
        label: int,
        glowing: bool = False,
    ) -> None:
        """Fill an upright rectangle that faces the camera."""
        (left, right), (low, high) = x, y
        corners = ((left, low, z), (left, high, z), (right, high, z), (right, low, z))
        self.fill(corners, self.lit(paint, z, glowing), label)

    def side(
        self,
        x: float,
        y: tuple[float, float],
        z: tuple[float, float],
        paint: Colour,
        label: int,
        shade: float = 1.0,
    ) -> None:
        """Fill an upright rectangle that runs along the road."""
        (low, high), (near, far) = y, z
        red, green, blue = self.lit(paint, (max(near, NEAR) * far) ** 0.5)
        corners = ((x, low, near), (x, high, near), (x, high, far), (x, low, far))
        self.fill(corners, (red * shade, green * shade, blue * shade), label)

    def ground(self, x: tuple[float, float], z: tuple[float, float], paint: Colour, label: int) -> None:
        """Fill a rectangle that lies on the ground."""
        (left, right), (near, far) = x, z
        corners = ((left, 0.0, near), (left, 0.0, far), (right, 0.0, far), (right, 0.0, near))
        self.fill(corners, self.lit(paint, (max(near, NEAR) * far) ** 0.5), label)

    def disc(
        self,
        x: float,
        y: float,
        z: float,
        radius: tuple[float, float],
        paint: Colour,
        label: int,
        glowing: bool = False,
    ) -> None:
        """Fill an upright ellipse that faces the camera."""
        column, row = self.camera.project(x, y, z)
        scale = self.camera.focal / max(z, NEAR) * self._scale
        red, green, blue = self.lit(paint, z, glowing)
        cv2.ellipse(
            self.canvas,
            (round(column * self._scale + self._middle), round(row * self._scale)),
            (round(radius[0] * scale), round(radius[1] * scale)),
            0.0,
            0.0,
            360.0,
            (min(red, 255.0), min(green, 255.0), min(blue, 255.0), float(label)),
            cv2.FILLED,
            cv2.LINE_8,
            _SUBPIXEL,
        )

    def panes(self, corners: npt.NDArray[np.float64], paint: Colour, z: float, label: int, glowing: bool) -> None:
        """Fill many quadrilaterals at once: (n, 4, 3) world corners, one paint."""
        if not len(corners):
            return
        scale = self.camera.focal / np.maximum(corners[..., 2], NEAR)
        columns = (self.camera.centre + corners[..., 0] * scale) * self._scale + self._middle
        rows = (self.camera.horizon + (self.camera.height - corners[..., 1]) * scale) * self._scale
        points = np.rint(np.stack([columns, rows], -1)).astype(np.int32)
        red, green, blue = self.lit(paint, z, glowing)
        colour = (min(red, 255.0), min(green, 255.0), min(blue, 255.0), float(label))
        cv2.fillPoly(self.canvas, list(points), colour, cv2.LINE_8, _SUBPIXEL)

    def lamp(self, x: float, y: float, z: float, radius: float, colour: Colour, power: float = 1.0) -> None:
        """Remember a light, whose halo is added when the picture is finished."""
        column, row = self.camera.project(x, y, z)
        size = radius * self.camera.focal / max(z, NEAR)
        self.lamps.append(Lamp(column, row, size, colour, power * math.exp(-0.5 * self._haze * z)))
