"""Cars, trucks, buses, trams, and two-wheelers with or without a rider.

Each is a front or rear face plus the flank that the camera sees. Proportions are a toy's: wide enough to be
found at 64 rows.
"""

from __future__ import annotations

from client.data.scenes.dice import Dice, scaled
from client.data.scenes.draw import Pen
from client.data.scenes.look import Colour

RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = 12, 13, 14, 15, 16, 17, 18

LENGTH = {"car": 4.2, "truck": 6.5, "bus": 9.5, "train": 15.0}
"""Length of each vehicle in metres."""

_TYRE: Colour = (26, 26, 28)
_GLASS: Colour = (52, 62, 76)
_WHITE: Colour = (255, 246, 214)
_RED: Colour = (236, 34, 28)


def _flank(x: float, half: float) -> float:
    """Return the x of the side that the camera, at x = 0, can see."""
    return x - half if x > 0 else x + half


def _lights(pen: Pen, x: float, y: float, z: float, half: float, label: int, oncoming: bool) -> None:
    colour, size = (_WHITE, 0.16) if oncoming else (_RED, 0.14)
    for at in (x - half, x + half):
        pen.disc(at, y, z, (size, size * 0.85), colour, label, glowing=pen.domain.glow > 0.5)
        pen.lamp(at, y, z, 0.55 if oncoming else 0.32, colour, 1.0 if oncoming else 0.65)


def car(pen: Pen, dice: Dice, x: float, z: float, oncoming: bool) -> None:
    """Paint a car whose nearest point is z metres away."""
    paint, half, roof = dice.paint(pen.domain, "car"), dice.between(0.88, 1.0), dice.between(1.5, 1.75)
    far, flank = z + LENGTH["car"], _flank(x, half)
    dark = scaled(paint, 0.72)
    pen.ground((x - half - 0.1, x + half + 0.1), (z - 0.2, far), (40, 40, 44), 0)
    pen.side(flank, (0.25, 0.95), (z, far), dark, CAR)
    pen.side(flank * 0.96 + x * 0.04, (0.9, roof), (z + 0.7, far - 0.9), scaled(_GLASS, 0.9), CAR)
    for wheel in (x - half + 0.22, x + half - 0.22):
        pen.face((wheel - 0.2, wheel + 0.2), (0.0, 0.5), z, _TYRE, CAR)
    cabin = ((x - half * 0.92, 0.9), (x - half * 0.7, roof), (x + half * 0.7, roof), (x + half * 0.92, 0.9))
    pen.shape(cabin, z + 0.4, paint, CAR)
    glass = ((x - half * 0.78, 0.98), (x - half * 0.6, roof - 0.12), (x + half * 0.6, roof - 0.12))
    pen.shape((*glass, (x + half * 0.78, 0.98)), z + 0.4, _GLASS, CAR)
    pen.face((x - half, x + half), (0.3, 0.98), z, paint, CAR)
    pen.face((x - half, x + half), (0.26, 0.44), z, scaled(paint, 0.5), CAR)
    pen.face((x - 0.28, x + 0.28), (0.44, 0.58), z, (226, 226, 214), CAR)
    _lights(pen, x, 0.74, z, half - 0.2, CAR, oncoming)


def truck(pen: Pen, dice: Dice, x: float, z: float, oncoming: bool) -> None:
    """Paint a truck: a tall plain box on dark wheels; oncoming, its cab stands before the box."""
    paint, half, roof = dice.paint(pen.domain, "truck"), 1.25, dice.between(3.0, 3.5)
    far, flank = z + LENGTH["truck"], _flank(x, half)
    pen.ground((x - half, x + half), (z - 0.2, far), (38, 38, 42), 0)
    pen.side(flank, (0.15, 0.8), (z, far), _TYRE, TRUCK)
    pen.side(flank, (0.8, roof), (z + (1.6 if oncoming else 0.0), far), scaled(paint, 0.7), TRUCK)
    if oncoming:
        pen.face((x - half, x + half), (0.8, roof), z + 1.6, paint, TRUCK)
        cab = dice.paint(pen.domain, "car")
        pen.side(flank, (0.4, 2.3), (z, z + 1.6), scaled(cab, 0.7), TRUCK)
        pen.face((x - half, x + half), (0.4, 2.4), z, cab, TRUCK)
        pen.face((x - half * 0.86, x + half * 0.86), (1.4, 2.2), z, _GLASS, TRUCK)
    else:
        pen.face((x - half, x + half), (0.7, roof), z, paint, TRUCK)
        for door in (x - half * 0.94, x + 0.04):
            pen.face((door, door + half * 0.9), (0.95, roof - 0.15), z, scaled(paint, 0.86), TRUCK)
        pen.face((x - half, x + half), (0.45, 0.72), z, (60, 58, 58), TRUCK)
    for wheel in (x - half + 0.3, x + half - 0.3):
        pen.face((wheel - 0.26, wheel + 0.26), (0.0, 0.55), z, _TYRE, TRUCK)
    _lights(pen, x, 0.62, z, half - 0.2, TRUCK, oncoming)


def _windows(
    pen: Pen, flank: float, y: tuple[float, float], z: tuple[float, float], step: float, label: int
) -> None:
    near, far = z
    at = near + 0.4
    while at + step * 0.75 < far:
        pen.side(flank, y, (at, at + step * 0.75), _GLASS, label)
        at += step


def bus(pen: Pen, dice: Dice, x: float, z: float, oncoming: bool) -> None:
    """Paint a bus: a wide windscreen above a coloured front, a lit destination board, large side windows."""
    paint, half, roof = dice.paint(pen.domain, "bus"), 1.3, dice.between(2.9, 3.2)
    far, flank = z + LENGTH["bus"], _flank(x, half)
    pen.ground((x - half, x + half), (z - 0.2, far), (38, 38, 42), 0)
    pen.side(flank, (0.3, roof), (z, far), scaled(paint, 0.74), BUS)
    _windows(pen, flank, (1.5, 2.45), (z, far), 1.7, BUS)
    for wheel in (x - half + 0.3, x + half - 0.3):
        pen.face((wheel - 0.22, wheel + 0.22), (0.0, 0.5), z, _TYRE, BUS)
    pen.face((x - half, x + half), (0.28, roof), z, paint, BUS)
    pen.face((x - half * 0.92, x + half * 0.92), (1.25, roof - 0.5), z, scaled(_GLASS, 1.1), BUS)
    pen.face((x - half * 0.7, x + half * 0.7), (roof - 0.42, roof - 0.12), z, (250, 190, 60), BUS, glowing=True)
    pen.face((x - half, x + half), (0.28, 0.46), z, scaled(paint, 0.45), BUS)
    _lights(pen, x, 0.72, z, half - 0.22, BUS, oncoming)


def train(pen: Pen, dice: Dice, x: float, z: float, oncoming: bool) -> None:
    """Paint a tram: rails, a rounded pale nose with a band, a long windowed flank, a pantograph."""
    paint, half, roof = dice.paint(pen.domain, "train"), 1.25, dice.between(3.1, 3.4)
    far, flank = z + LENGTH["train"], _flank(x, half)
    for rail in (x - 0.75, x + 0.75):
        pen.ground((rail - 0.07, rail + 0.07), (2.0, 40.0), (60, 56, 58), 0)
    pale = (0.5 * paint[0] + 100, 0.5 * paint[1] + 100, 0.5 * paint[2] + 96)
    pen.face((x - 0.08, x + 0.08), (roof, roof + 0.7), z + 3.0, (60, 62, 66), TRAIN)
    pen.face((x - 0.6, x + 0.6), (roof + 0.55, roof + 0.72), z + 3.0, (60, 62, 66), TRAIN)
    pen.side(flank, (0.12, 1.3), (z, far), scaled(paint, 0.8), TRAIN)
    pen.side(flank, (1.3, roof), (z, far), scaled(pale, 0.78), TRAIN)
    _windows(pen, flank, (1.55, 2.5), (z, far), 1.25, TRAIN)
    nose = (
        (x - half, 0.1),
        (x - half, 2.2),
        (x - half * 0.7, roof),
        (x + half * 0.7, roof),
        (x + half, 2.2),
        (x + half, 0.1),
    )
    pen.shape(nose, z, pale, TRAIN)
    pen.face((x - half, x + half), (0.1, 1.15), z, paint, TRAIN)
    glass = ((x - half * 0.8, 1.35), (x - half * 0.62, 2.6), (x + half * 0.62, 2.6), (x + half * 0.8, 1.35))
    pen.shape(glass, z, _GLASS, TRAIN)
    pen.disc(x, 2.85, z, (0.16, 0.16), _WHITE, TRAIN, glowing=True)
    _lights(pen, x, 0.8, z, half - 0.25, TRAIN, oncoming)


def _rider(pen: Pen, dice: Dice, x: float, z: float, seat: float, facing: float, helmet: bool) -> None:
    """Paint someone who leans forward over the handlebar, ``facing`` 1 to the right, -1 to the left."""
    cloth, legs = dice.paint(pen.domain, "cloth"), scaled(dice.paint(pen.domain, "cloth"), 0.6)
    hip, top, lean = x - 0.18 * facing, seat + 0.78, 0.3 * facing
    pen.shape(
        ((hip - 0.2, seat), (hip + 0.22, seat + 0.1), (x + 0.3 * facing, 0.3), (x + 0.08 * facing, 0.3)),
        z,
        legs,
        RIDER,
    )
    pen.shape(
        ((hip - 0.24, seat), (hip + lean - 0.2, top), (hip + lean + 0.24, top), (hip + 0.24, seat)),
        z,
        cloth,
        RIDER,
    )
    arm = ((hip + lean, top - 0.1), (x + 0.62 * facing, seat + 0.26), (x + 0.56 * facing, seat + 0.12))
    pen.shape((*arm, (hip + lean * 0.8, top - 0.34)), z, scaled(cloth, 0.85), RIDER)
    head = dice.paint(pen.domain, "motorcycle") if helmet else dice.paint(pen.domain, "skin")
    pen.disc(hip + lean * 1.25, top + 0.22, z, (0.22, 0.25), head, RIDER)


def bicycle(pen: Pen, dice: Dice, x: float, z: float, ridden: bool) -> None:
    """Paint a bicycle seen from its side: two large rings and a thin frame."""
    facing = 1.0 if dice.chance(0.5) else -1.0
    paint, radius, base = dice.paint(pen.domain, "bike"), 0.46, 0.66
    inside = scaled(dice.one(pen.domain.palette["road"]), 1.25)
    for wheel in (x - base, x + base):
        pen.disc(wheel, radius, z, (radius, radius), _TYRE, BICYCLE)
        pen.disc(wheel, radius, z, (radius * 0.68, radius * 0.68), inside, BICYCLE)
    crank, seat, bar = (x - 0.05 * facing, 0.4), (x - 0.25 * facing, 1.0), (x + 0.5 * facing, 1.05)
    for (ax, ay), (bx, by) in (
        ((x - base, 0.46), crank),
        (crank, seat),
        (seat, bar),
        (crank, bar),
        (bar, (x + base * facing, 0.46)),
    ):
        pen.shape(
            ((ax - 0.06, ay - 0.06), (ax + 0.06, ay + 0.06), (bx + 0.06, by + 0.06), (bx - 0.06, by - 0.06)),
            z,
            paint,
            BICYCLE,
        )
    pen.face((seat[0] - 0.16, seat[0] + 0.16), (0.98, 1.08), z, _TYRE, BICYCLE)
    if ridden:
        _rider(pen, dice, x, z, 1.0, facing, helmet=False)


def motorcycle(pen: Pen, dice: Dice, x: float, z: float, ridden: bool) -> None:
    """Paint a motorcycle seen from its side: fat wheels, a solid coloured body, a headlight."""
    facing = 1.0 if dice.chance(0.5) else -1.0
    paint, radius, base = dice.paint(pen.domain, "motorcycle"), 0.4, 0.78
    for wheel in (x - base, x + base):
        pen.disc(wheel, radius, z, (radius, radius), _TYRE, MOTORCYCLE)
        pen.disc(wheel, radius, z, (0.14, 0.14), (150, 150, 154), MOTORCYCLE)
    body = ((-0.85, 0.78), (-0.8, 1.0), (0.1, 0.98), (0.35, 1.16), (0.66, 1.0), (0.5, 0.36), (-0.4, 0.3))
    pen.shape([(x + facing * bx, by) for bx, by in body], z, paint, MOTORCYCLE)
    pen.shape(
        [(x + facing * bx, by) for bx, by in ((-0.8, 0.98), (0.05, 0.96), (0.0, 0.82), (-0.7, 0.84))],
        z,
        _TYRE,
        MOTORCYCLE,
    )
    pen.face((x - 0.26, x + 0.26), (0.3, 0.55), z, (120, 120, 126), MOTORCYCLE)
    pen.disc(x + 0.72 * facing, 0.98, z, (0.15, 0.15), _WHITE, MOTORCYCLE, glowing=pen.domain.glow > 0.5)
    pen.lamp(x + 0.72 * facing, 0.98, z, 0.3, _WHITE, 0.6)
    if ridden:
        _rider(pen, dice, x, z, 0.98, facing, helmet=True)


VEHICLES = {"car": car, "truck": truck, "bus": bus, "train": train}
"""Painter of each vehicle that drives in a lane."""
CYCLES = {"bicycle": bicycle, "motorcycle": motorcycle}
"""Painter of each two-wheeler."""
