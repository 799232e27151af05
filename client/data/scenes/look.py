"""What a domain is: colours, layout, light and weather, with the defaults that most of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Colour = tuple[float, float, float]
"""RGB, 0…255."""


def shares(**share: float) -> Mapping[str, float]:
    """Return relative frequencies by name, read-only."""
    return MappingProxyType(share)


@dataclass(frozen=True)
class Domain:
    """The look of one domain. Colours are RGB 0…255; lengths are metres of the toy world."""

    name: str
    palette: Mapping[str, tuple[Colour, ...]]
    """Paint by part ("road", "building", "car" …); one entry is drawn at random for each object."""
    sky: tuple[tuple[Colour, Colour], ...]
    """(zenith, horizon) pairs; one is drawn for each scene."""
    clouds: float = 0.0
    """Strength of clouds in the sky, 0…1."""
    tint: float = 0.06
    """Standard deviation of the random gain of each channel of each object's paint."""
    haze: tuple[float, float] = (0.0, 0.0)
    """Range of the fog's extinction per metre."""
    haze_colour: Colour = (200, 205, 210)
    ambient: float = 1.0
    """Light that is everywhere, 1 = day."""
    headlight: float = 0.0
    """Further light close to the camera; falls off with distance."""
    glow: float = 0.0
    """Brightness of the halos round lamps and windows, 0…1."""
    texture: float = 1.0
    """Strength of surface texture."""
    litter: float = 0.0
    """Mean number of stains, stones and puddles on the ground."""
    rain: float = 0.0
    """Mean number of streaks of rain for each metre-high picture, in hundreds."""
    noise: float = 0.0
    """Standard deviation of sensor noise, in grey levels of 255."""
    blur: float = 0.0
    """Standard deviation of the lens blur, as a share of the picture's height."""
    contrast: float = 1.0
    saturation: float = 1.0
    cast: Colour = (1.0, 1.0, 1.0)
    """Gain of each channel: the light's colour."""
    horizon: tuple[float, float] = (0.36, 0.46)
    """Range of the horizon's row, as a share of the picture's height from the top."""
    road: tuple[float, float] = (3.0, 3.8)
    """Range of half the road's width."""
    verge: float = 0.35
    """Share of street sides with terrain beyond the sidewalk."""
    unpaved: float = 0.0
    """Share of street sides that have terrain and no sidewalk."""
    height: tuple[float, float] = (4.5, 10.0)
    """Range of the buildings' heights."""
    blocks: Mapping[str, float] = field(
        default_factory=lambda: shares(building=0.42, trees=0.22, wall=0.14, fence=0.14, open=0.08)
    )
    """What lines the street; relative frequencies."""
    vehicles: Mapping[str, float] = field(
        default_factory=lambda: shares(car=0.4, truck=0.17, bus=0.17, train=0.16, none=0.10)
    )
    """What drives in the lanes; relative frequencies."""
    cycles: float = 1.3
    """Mean number of bicycles and motorcycles."""
    ridden: float = 0.6
    """Share of them that somebody rides."""
    people: float = 2.0
    """Mean number of pedestrians."""
    posts: tuple[float, float, float] = (1.0, 1.1, 1.2)
    """Mean number of lamp posts, traffic lights and traffic signs."""
