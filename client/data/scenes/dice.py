"""Every random choice of a scene, from one counter-based generator: same numbers on every machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from client.data.scenes.look import Colour, Domain

T = TypeVar("T")


class Dice:
    """Random choices for one scene, a function of the numbers in ``key`` alone.

    Numbers are drawn a block at a time: one call into NumPy for each would take longer than the drawing.
    """

    def __init__(self, *key: int) -> None:
        self.generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
        self._block: Iterator[float] = iter(())

    def roll(self) -> float:
        """Return a number in 0…1, uniformly."""
        for number in self._block:
            return number
        self._block = iter(self.generator.random(512).tolist())
        return next(self._block)

    def chance(self, share: float) -> bool:
        """Return true in ``share`` of all calls."""
        return self.roll() < share

    def between(self, low: float, high: float) -> float:
        """Return a number between low and high, uniformly."""
        return low + (high - low) * self.roll()

    def one(self, options: Sequence[T]) -> T:
        """Return one of the options, all equally likely."""
        return options[int(self.roll() * len(options))]

    def weighted(self, options: Mapping[str, float]) -> str:
        """Return a key, as likely as its value says."""
        left = self.roll() * sum(options.values())
        for name, weight in options.items():
            left -= weight
            if left < 0:
                return name
        return name

    def count(self, mean: float, most: int = 6) -> int:
        """Return a Poisson number with that mean, cut off at ``most``."""
        left, number, limit = 1.0, -1, math.exp(-mean)
        while left > limit and number < most:
            left *= self.roll()
            number += 1
        return number

    def paint(self, domain: Domain, part: str) -> Colour:
        """Return one of a part's colours, each channel varied by the domain's tint."""
        red, green, blue = self.one(domain.palette[part])
        tint, plain = domain.tint * 12**0.5, 1 - domain.tint * 3**0.5  # a uniform number's deviation is 1 / √12
        return (
            red * (plain + tint * self.roll()),
            green * (plain + tint * self.roll()),
            blue * (plain + tint * self.roll()),
        )


def scaled(colour: Colour, factor: float) -> Colour:
    """Return a darker (factor < 1) or lighter shade."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)
