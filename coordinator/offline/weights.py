"""Weights as whole numbers, which is what the exact sums take."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from math import gcd, lcm

from protos.errors import ConfigurationError
from protos.fixedpoint import MAX_MODELS


def uniform(models: int) -> list[int]:
    """Weigh every model alike."""
    return [1] * models


def parse(text: str, models: int) -> list[int]:
    """Read weights such as ``0.3,0.7`` or ``2975,6993`` as the smallest whole numbers of the same ratios.

    Args:
        text: As many numbers as there are models, at least one of them positive.
        models: How many there are.

    Returns:
        Whole numbers. Their sum is at most `MAX_MODELS`; ratios that need a larger one are rounded to it.

    Raises:
        ConfigurationError: A number is missing, negative or none.

    """
    words = [word.strip() for word in text.split(",")]
    try:
        wanted = [Fraction(word) for word in words]
    except (ValueError, ZeroDivisionError):
        raise ConfigurationError(
            f"weights {text!r} are not numbers", "separate them by commas: --weights 0.3,0.7"
        ) from None
    if len(wanted) != models:
        raise ConfigurationError(
            f"{len(wanted)} weights for {models} models", "give one for each model, in the same order"
        )
    if min(wanted) < 0 or not any(wanted):
        raise ConfigurationError(
            f"weights {text!r} have a negative number, or none that is positive",
            "weights say what share of the merged model each model is",
        )
    return whole(wanted)


def whole(wanted: Sequence[Fraction]) -> list[int]:
    """Return the smallest whole numbers of the given ratios, or the nearest whose sum is `MAX_MODELS`."""
    scale = lcm(*(share.denominator for share in wanted))
    numbers = [int(share * scale) for share in wanted]
    divisor = reduce(gcd, numbers)
    numbers = [number // divisor for number in numbers]
    if sum(numbers) <= MAX_MODELS:
        return numbers
    exact = [Fraction(number * MAX_MODELS, sum(numbers)) for number in numbers]
    rounded = [int(share) for share in exact]
    # The largest remainders get what rounding down left over.
    order = sorted(range(len(exact)), key=lambda i: rounded[i] - exact[i])
    for i in order[: MAX_MODELS - sum(rounded)]:
        rounded[i] += 1
    return rounded


def shares(weights: Sequence[int]) -> list[float]:
    """Return each model's share of the whole."""
    return [weight / sum(weights) for weight in weights]
