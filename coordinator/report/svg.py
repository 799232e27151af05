"""From a matplotlib figure to an SVG string that can stand in a page beside others.

Charts are drawn with the object interface, so no global figure list, and matplotlib is only imported when a
chart is drawn: it is slow to load.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1c2733"
MUTED = "#5c6873"
GRID = "#e3e7eb"

# Layout is computed with the font that matplotlib ships, which is wider than those that browsers choose from here.
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.parse_math": False,  # a dollar sign in a site's name is a dollar sign
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#b6bfc8",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
}


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Draw and save a chart within this: sets the style, and makes ``name`` the salt of the SVG's ids."""
    import matplotlib as mpl

    settings: Any = {**_SETTINGS, "svg.hashsalt": f"onebasin-{name}"}
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The browser picks a font that has the glyph; matplotlib's own need not.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def to_svg(figure: Figure) -> str:
    """Return the figure as an ``<svg>`` element: the same bytes for the same figure, at any time.

    It has no XML prolog, no date, no metadata, and only the ids that something in it refers to: several such
    elements share a page, where an id must be unique (``drawing``'s name sees to that).
    """
    out = io.StringIO()
    figure.savefig(
        out,
        format="svg",
        transparent=True,
        metadata={"Creator": None, "Date": None, "Format": None, "Type": None},
    )
    text = out.getvalue()
    text = text[text.index("<svg") :].strip()
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    # This rule would be the whole page's, not only the chart's.
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL)
    text = text.replace("<svg ", '<svg stroke-linejoin="round" stroke-linecap="butt" ', 1)
    return text.replace("'DejaVu Sans'", _FONTS) + "\n"
