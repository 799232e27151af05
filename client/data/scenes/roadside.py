"""What stands beside the road: façades, walls, fences, trees, posts, lights, signs, and people."""

from __future__ import annotations

import numpy as np

from client.data.scenes.dice import Dice, scaled
from client.data.scenes.draw import NEAR, Pen
from client.data.scenes.look import Colour

BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, PERSON = 2, 3, 4, 5, 6, 7, 8, 11

_AMBER: Colour = (255, 196, 110)


def building(pen: Pen, dice: Dice, x: float, z: tuple[float, float]) -> None:
    """Paint a house: the façade along the street at x, and the gable that faces the camera."""
    near, far = z
    paint, height = dice.paint(pen.domain, "building"), dice.between(*pen.domain.height)
    outward = 1.0 if x > 0 else -1.0
    deep = x + outward * 9.0
    gable = (min(x, deep), max(x, deep))
    pen.side(x, (0.0, height), (max(near, NEAR), far), paint, BUILDING, shade=0.92)
    pen.face(gable, (0.0, height), near, scaled(paint, 0.78), BUILDING)
    cornice = scaled(paint, 1.18)
    pen.side(x, (height - 0.35, height), (max(near, NEAR), far), cornice, BUILDING)
    pen.face(gable, (height - 0.35, height), near, scaled(paint, 0.95), BUILDING)
    pen.side(x, (0.0, 0.7), (max(near, NEAR), far), scaled(paint, 0.7), BUILDING)
    floors = np.arange(1.1, height - 1.9, 2.4)
    along = np.arange(max(near, NEAR) + 0.7, far - 1.2, 2.1)
    across = np.arange(0.8, 8.0, 2.1)
    panes = dice.paint(pen.domain, "window"), dice.paint(pen.domain, "window")
    flat = np.zeros((len(along) * len(floors), 4, 3))
    flat[..., 0] = x
    flat[..., 1] = np.repeat(floors, len(along))[:, None] + np.array([0.0, 1.35, 1.35, 0.0])
    flat[..., 2] = np.tile(along, len(floors))[:, None] + np.array([0.0, 0.0, 1.1, 1.1])
    front = np.zeros((len(across) * len(floors), 4, 3))
    front[..., 0] = x + outward * (np.tile(across, len(floors))[:, None] + np.array([0.0, 0.0, 1.1, 1.1]))
    front[..., 1] = np.repeat(floors, len(across))[:, None] + np.array([0.0, 1.35, 1.35, 0.0])
    front[..., 2] = near
    every = np.concatenate([flat, front]) if near > NEAR else flat
    lit = dice.generator.random(len(every)) < 0.45
    middle = (max(near, NEAR) * far) ** 0.5
    for part, paint in ((every[lit], panes[0]), (every[~lit], panes[1])):
        pen.panes(part, paint, middle, BUILDING, glowing=pen.domain.glow > 0.5)


def wall(pen: Pen, dice: Dice, x: float, z: tuple[float, float]) -> None:
    """Paint a wall: courses of stone under a pale coping, with pillars."""
    near, far = max(z[0], NEAR), z[1]
    paint, height = dice.paint(pen.domain, "wall"), dice.between(2.0, 2.7)
    pen.side(x, (0.0, height), (near, far), paint, WALL)
    for course in (0.5, 1.0, 1.5):
        pen.side(x, (course, course + 0.1), (near, far), paint, WALL, shade=0.78)
    pen.side(x, (height - 0.28, height), (near, far), paint, WALL, shade=1.22)
    outward = 1.0 if x > 0 else -1.0
    edge = (min(x, x + outward * 0.6), max(x, x + outward * 0.6))
    pen.face(edge, (0.0, height + 0.15), z[0], scaled(paint, 0.85), WALL)


def fence(pen: Pen, dice: Dice, x: float, z: tuple[float, float]) -> None:
    """Paint a fence: pickets and two rails before a dim gap; the whole panel counts as fence."""
    near, far = max(z[0], NEAR), z[1]
    paint, height = dice.paint(pen.domain, "fence"), dice.between(1.7, 2.1)
    gap = scaled(dice.paint(pen.domain, "terrain"), 0.5)
    pen.side(x, (0.0, height), (near, far), gap, FENCE)
    for rail in (0.35, height - 0.4):
        pen.side(x, (rail, rail + 0.2), (near, far), paint, FENCE)
    along = np.arange(near + 0.05, min(far, 26.0), 0.8)
    pickets = np.empty((len(along), 4, 3))
    pickets[..., 0] = x
    pickets[..., 1] = np.array([0.0, height + 0.15, height + 0.15, 0.0])
    pickets[..., 2] = along[:, None] + np.array([0.0, 0.0, 0.36, 0.36])
    pen.panes(pickets, paint, (near * far) ** 0.5, FENCE, glowing=False)


def tree(pen: Pen, dice: Dice, x: float, z: float, size: float) -> None:
    """Paint a tree of ``size`` metres: a trunk and a crown of leaf clumps lit from above."""
    leaf, trunk = dice.paint(pen.domain, "vegetation"), dice.paint(pen.domain, "trunk")
    width = 0.05 * size
    pen.face((x - width, x + width), (0.0, size * 0.5), z, trunk, VEGETATION)
    crown, radius = size * 0.64, size * 0.34
    pen.disc(x, crown, z, (radius, radius * 0.95), scaled(leaf, 0.8), VEGETATION)
    for _ in range(3 if z < 24 else 1):
        dx, dy = dice.between(-0.7, 0.7) * radius, dice.between(-0.5, 0.7) * radius
        clump = radius * dice.between(0.45, 0.68)
        shade = 1.0 + 0.32 * dy / radius + dice.between(-0.08, 0.08)
        pen.disc(x + dx, crown + dy, z, (clump, clump * 0.85), scaled(leaf, shade), VEGETATION)


def trees(pen: Pen, dice: Dice, x: float, z: tuple[float, float]) -> None:
    """Paint a hedge with trees behind it."""
    near, far = z
    outward = 1.0 if x > 0 else -1.0
    at = far
    while at > max(near, 3.0):
        tree(pen, dice, x + outward * dice.between(0.9, 2.2), at, dice.between(3.6, 6.2))
        at -= dice.between(2.4, 4.2)
    hedge = dice.paint(pen.domain, "vegetation")
    tall = dice.between(0.7, 1.3)
    pen.side(x, (0.0, tall), (max(near, NEAR), far), hedge, VEGETATION, shade=0.85)
    pen.side(x, (tall * 0.7, tall), (max(near, NEAR), far), hedge, VEGETATION, shade=1.1)


BLOCKS = {"building": building, "trees": trees, "wall": wall, "fence": fence}
"""Painter of each thing that can line a street."""


def lamp_post(pen: Pen, dice: Dice, x: float, z: float) -> None:
    """Paint a lamp post whose arm reaches over the road."""
    paint, height = dice.paint(pen.domain, "pole"), dice.between(4.2, 5.4)
    inward = -1.0 if x > 0 else 1.0
    pen.face((x - 0.2, x + 0.2), (0.0, height), z, paint, POLE)
    pen.face((x - 0.28, x + 0.28), (0.0, 0.5), z, scaled(paint, 0.8), POLE)
    arm = (min(x, x + inward * 1.3), max(x, x + inward * 1.3))
    pen.face(arm, (height - 0.3, height), z, paint, POLE)
    tip = x + inward * 1.2
    if pen.domain.glow > 0.5:
        pen.face((tip - 0.3, tip + 0.3), (height - 0.4, height - 0.2), z, (255, 236, 190), POLE, glowing=True)
        pen.lamp(tip, height - 0.3, z, 0.95, _AMBER, 1.0)


def traffic_light(pen: Pen, dice: Dice, x: float, z: float) -> None:
    """Paint a traffic light on its post; one of its three lamps shines."""
    paint, box = dice.paint(pen.domain, "pole"), dice.paint(pen.domain, "lightbox")
    foot, top = dice.between(1.9, 2.3), 0.0
    top = foot + 1.5
    pen.face((x - 0.19, x + 0.19), (0.0, foot), z, paint, POLE)
    pen.face((x - 0.42, x + 0.42), (foot, top), z, box, LIGHT)
    shining = dice.one((0, 1, 2))
    colours: tuple[Colour, ...] = ((255, 48, 36), (255, 190, 40), (60, 240, 130))
    for lamp, colour in enumerate(colours):
        y = top - 0.3 - 0.45 * lamp
        shines = lamp == shining
        pen.disc(x, y, z, (0.24, 0.2), colour if shines else scaled(colour, 0.22), LIGHT, glowing=shines)
        if shines:
            pen.lamp(x, y, z, 0.5, colour, 0.4)


def traffic_sign(pen: Pen, dice: Dice, x: float, z: float) -> None:
    """Paint a traffic sign on its post: a disc, a triangle, a square or a diamond with a white field."""
    paint, face = dice.paint(pen.domain, "pole"), dice.paint(pen.domain, "sign")
    y, r = dice.between(2.3, 2.9), dice.between(0.52, 0.66)
    pen.face((x - 0.18, x + 0.18), (0.0, y), z, paint, POLE)
    white: Colour = (238, 238, 232)
    kind = dice.one(("disc", "disc", "triangle", "square", "diamond"))
    if kind == "disc":
        pen.disc(x, y, z, (r, r), face, SIGN)
        pen.disc(x, y, z, (r * 0.6, r * 0.6), white, SIGN)
        if dice.chance(0.5):
            pen.face((x - r * 0.4, x + r * 0.4), (y - r * 0.15, y + r * 0.15), z, scaled(face, 0.5), SIGN)
        return
    outlines = {
        "triangle": ((-1.1, -0.85), (0.0, 1.1), (1.1, -0.85)),
        "square": ((-0.95, -0.95), (-0.95, 0.95), (0.95, 0.95), (0.95, -0.95)),
        "diamond": ((-1.15, 0.0), (0.0, 1.15), (1.15, 0.0), (0.0, -1.15)),
    }
    outline = outlines[kind]
    pen.shape([(x + r * a, y + r * b) for a, b in outline], z, face, SIGN)
    pen.shape([(x + r * 0.58 * a, y + r * (0.58 * b - 0.06)) for a, b in outline], z, white, SIGN)


POSTS = (lamp_post, traffic_light, traffic_sign)
"""Painters in the order of ``Domain.posts``."""


def person(pen: Pen, dice: Dice, x: float, z: float) -> None:
    """Paint a walking person: two legs, a coat, arms and a head."""
    coat, legs = dice.paint(pen.domain, "cloth"), scaled(dice.paint(pen.domain, "cloth"), 0.7)
    skin, tall = dice.paint(pen.domain, "skin"), dice.between(1.65, 1.95)
    stride = dice.between(0.07, 0.26)
    hip, neck = tall * 0.47, tall * 0.82
    for foot in (x - stride, x + stride):
        pen.shape(((foot - 0.14, 0.0), (x - 0.26, hip), (x + 0.26, hip), (foot + 0.14, 0.0)), z, legs, PERSON)
    body = ((x - 0.33, hip - 0.14), (x - 0.28, neck), (x + 0.28, neck), (x + 0.33, hip - 0.14))
    pen.shape(body, z, coat, PERSON)
    for arm in (-1.0, 1.0):
        shoulder, hand = x + arm * 0.28, x + arm * (0.4 + stride * 0.5)
        sleeve = (
            (shoulder, neck),
            (hand + arm * 0.1, hip + 0.05),
            (hand - arm * 0.1, hip),
            (shoulder, neck - 0.3),
        )
        pen.shape(sleeve, z, scaled(coat, 0.82), PERSON)
    pen.disc(x, tall - 0.12, z, (0.22, 0.25), skin, PERSON)
    hair = ((x - 0.22, tall - 0.06), (x - 0.15, tall + 0.14), (x + 0.15, tall + 0.14), (x + 0.22, tall - 0.06))
    pen.shape(hair, z, scaled(legs, 0.6), PERSON)
