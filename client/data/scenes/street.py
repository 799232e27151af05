"""Composes a street: sky, skyline, ground, what lines it, and what stands or moves on it, far to near."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import cv2
import numpy as np

from client.data.scenes.dice import Dice, scaled
from client.data.scenes.draw import SUPERSAMPLE, Camera, Pen
from client.data.scenes.look import Colour, Domain
from client.data.scenes.roadside import BLOCKS, BUILDING, POSTS, VEGETATION, person, tree
from client.data.scenes.vehicles import CYCLES, LENGTH, VEHICLES

ROAD, SIDEWALK, TERRAIN, SKY = 0, 1, 9, 10

_DEPTHS = (1.6, 2.8, 4.6, 7.5, 13.0, 60.0)
"""Slices of the ground (m); each gets the light and fog of its distance."""

Stroke = tuple[float, Callable[[], None]]
"""Distance, and what to paint there."""


def street(dice: Dice, domain: Domain, size: tuple[int, int]) -> Pen:
    """Paint one street scene and return the pen that holds its canvas and lamps."""
    camera = Camera(horizon=dice.between(*domain.horizon), centre=dice.between(-0.28, 0.28))
    pen = Pen(size, camera, domain, dice.between(*domain.haze))
    half = dice.between(*domain.road)
    _sky(pen, dice)
    _skyline(pen, dice)
    edges = _ground(pen, dice, half)
    for edge in edges:
        _row(pen, dice, edge)
    strokes = _traffic(pen, dice, half)
    for sign, edge in zip((-1.0, 1.0), edges, strict=True):
        strokes += _pavement(pen, dice, half, abs(edge), sign)
    for _, paint in sorted(strokes, key=lambda stroke: -stroke[0]):
        paint()
    return pen


def _sky(pen: Pen, dice: Dice) -> None:
    """Paint a gradient with clouds at the picture's own resolution, as nothing in it is sharp."""
    domain, canvas = pen.domain, pen.canvas
    height, width = canvas.shape[0] // SUPERSAMPLE, canvas.shape[1] // SUPERSAMPLE
    zenith, horizon = (np.asarray(end, np.float32) for end in dice.one(domain.sky))
    down = (np.arange(height, dtype=np.float32) / np.float32(height * (pen.camera.horizon + 0.05)))[:, None, None]
    line = zenith + (horizon - zenith) * np.minimum(down, 1)
    sky = np.broadcast_to(line, (height, width, 3)).astype(np.float32)
    if domain.clouds:
        coarse = cv2.resize(
            dice.generator.random((6, 6), np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        fine = cv2.resize(
            dice.generator.random((20, 14), np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        cover = np.clip((coarse + 0.45 * fine - 0.82) * 2.4, 0, 1)[..., None] * np.float32(domain.clouds)
        sky += (250 - sky) * cover
    high, wide = canvas.shape[:2]
    canvas[..., :3] = cv2.resize(
        np.clip(sky, 0, 255).astype(np.uint8), (wide, high), interpolation=cv2.INTER_LINEAR
    )
    canvas[..., 3] = SKY


def _skyline(pen: Pen, dice: Dice) -> None:
    """Paint what closes the view: far woods and houses."""
    camera = pen.camera
    woods = dice.paint(pen.domain, "vegetation")
    for _ in range(7):
        u = dice.between(-1.1, 1.1)
        x = (u - camera.centre) * 60.0
        pen.disc(x, dice.between(0.0, 1.5), 60.0, (dice.between(5, 12), dice.between(2.0, 5.5)), woods, VEGETATION)
    for _ in range(dice.count(2.2)):
        x, width = dice.between(-45, 45), dice.between(3, 7)
        paint = dice.paint(pen.domain, "building")
        pen.face((x - width, x + width), (0.0, dice.between(5.0, 12.0)), 58.0, paint, BUILDING)


def _ground(pen: Pen, dice: Dice, half: float) -> tuple[float, float]:
    """Paint road, sidewalks and verges; return where the rows of houses stand, left and right."""
    domain = pen.domain
    road, walk, earth = (dice.paint(domain, part) for part in ("road", "sidewalk", "terrain"))
    marking, edges = dice.paint(domain, "marking"), []
    slices = list(pairwise(_DEPTHS))
    for near, far in slices:
        pen.ground((-90.0, 90.0), (near, far), earth, TERRAIN)
        pen.ground((-half, half), (near, far), road, ROAD)
    for sign in (-1.0, 1.0):
        unpaved, verge = dice.chance(domain.unpaved), dice.chance(domain.verge)
        wide = dice.between(1.7, 2.6)
        edge = half + wide + (dice.between(1.2, 2.6) if verge or unpaved else 0.0)
        if not unpaved:
            inner, outer, kerb = sign * half, sign * (half + wide), sign * (half + 0.16)
            for near, far in slices:
                pen.ground((min(inner, outer), max(inner, outer)), (near, far), walk, SIDEWALK)
            for near, far in ((1.6, 4.0), (4.0, 12.0), (12.0, 60.0)):
                pen.ground((min(inner, kerb), max(inner, kerb)), (near, far), scaled(walk, 1.2), SIDEWALK)
            joint = 2.0
            while joint < 16.0:
                pen.ground(
                    (min(kerb, outer), max(kerb, outer)), (joint, joint * 1.02), scaled(walk, 0.84), SIDEWALK
                )
                joint *= 1.22
        edges.append(sign * edge)
    _markings(pen, dice, half, marking, 1.0 - domain.unpaved)
    _litter(pen, dice, half, road)
    return edges[0], edges[1]


def _litter(pen: Pen, dice: Dice, half: float, road: Colour) -> None:
    """Strew stains, patches and puddles over the road."""
    for _ in range(dice.count(pen.domain.litter, most=12)):
        z = 1.9 * (10.0 / 1.9) ** dice.roll()
        x = dice.between(-half + 0.5, half - 0.5)
        pen.ground((x - 0.45, x + 0.35), (z, z * 1.05), scaled(road, dice.between(0.7, 1.3)), ROAD)


def _markings(pen: Pen, dice: Dice, half: float, marking: Colour, share: float) -> None:
    if not dice.chance(share):
        return
    z = dice.between(1.6, 3.2)
    while z < 40.0:
        pen.ground((-0.12, 0.12), (z, z + 1.5), marking, ROAD)
        z += 3.2
    if dice.chance(0.5):
        for x in (-half + 0.25, half - 0.25):
            pen.ground((x - 0.07, x + 0.07), (1.6, 40.0), marking, ROAD)
    if dice.chance(0.22):
        z, x = dice.between(5.0, 9.0), -half + 0.3
        while x < half - 0.5:
            pen.ground((x, x + 0.5), (z, z + 2.2), marking, ROAD)
            x += 1.0


def _row(pen: Pen, dice: Dice, x: float) -> None:
    """Line one side of the street with blocks, far to near; low ones have gardens behind them."""
    spans, z = [], dice.between(-4.0, 1.0)
    while z < 50.0:
        length = dice.between(5.0, 11.0)
        spans.append((dice.weighted(pen.domain.blocks), (z, z + length)))
        z += length + (dice.between(0.5, 2.0) if dice.chance(0.4) else 0.0)
    outward = 1.0 if x > 0 else -1.0
    for kind, (near, far) in reversed(spans):
        if far < 1.8:
            continue
        if kind in ("wall", "fence", "open"):
            for _ in range(2):
                behind = dice.between(max(near, 3.0), max(far, 3.5)) + 1.0
                tree(pen, dice, x + outward * dice.between(1.5, 6.0), behind, dice.between(3.0, 6.0))
        if kind != "open":
            BLOCKS[kind](pen, dice, x, (near, far))


def _traffic(pen: Pen, dice: Dice, half: float) -> list[Stroke]:
    """Fill two lanes with vehicles, and let two-wheelers cross."""
    strokes: list[Stroke] = []
    for lane, oncoming in ((-0.52, True), (0.52, False)):
        z = dice.between(4.6, 9.0)
        for _ in range(3):
            kind = dice.weighted(pen.domain.vehicles)
            x = lane * half + dice.between(-0.25, 0.25)
            if kind == "none":
                z += dice.between(2.0, 6.0)
                continue
            if kind != "car":
                z += 1.2
            strokes.append((z, partial(VEHICLES[kind], pen, dice, x, z, oncoming)))
            z += LENGTH[kind] + dice.between(1.5, 5.0)
    for _ in range(dice.count(pen.domain.cycles, most=3)):
        z = dice.between(3.4, 7.0)
        x = dice.between(-0.85, 0.85) * z - pen.camera.centre * z
        x = max(-half - 1.2, min(half + 1.2, x))
        kind, ridden = dice.one(("bicycle", "motorcycle")), dice.chance(pen.domain.ridden)
        strokes.append((z, partial(CYCLES[kind], pen, dice, x, z, ridden)))
    return strokes


def _pavement(pen: Pen, dice: Dice, half: float, edge: float, sign: float) -> list[Stroke]:
    """Put posts at the kerb and people between kerb and houses, on one side."""
    strokes: list[Stroke] = []
    for paint, mean in zip(POSTS, pen.domain.posts, strict=True):
        for _ in range(dice.count(mean / 2, most=2)):
            z = dice.between(4.2, 10.0)
            x = sign * (half + 0.45)
            strokes.append((z, partial(paint, pen, dice, x, z)))
    for _ in range(dice.count(pen.domain.people / 2, most=4)):
        z = dice.between(3.4, 8.0)
        inner = half + 0.6 if dice.chance(0.75) else half * 0.2
        x = sign * dice.between(inner, max(inner + 0.2, edge - 0.5))
        strokes.append((z, partial(person, pen, dice, x, z)))
    return strokes
