"""How the program writes a share or a probability in percent: the one rule of report, console and data description."""

from __future__ import annotations

import math


def format_percent(share: float | None) -> str:
    """Return a share or a probability in percent, as `format_hundred` writes it.

    >>> format_percent(0.906), format_percent(0.0649), format_percent(1.0), format_percent(None)
    ('90.6%', '6.5%', '100%', 'n/a')
    """
    return "n/a" if share is None else f"{format_hundred(share)}%"


def format_hundred(share: float) -> str:
    """Return how many of 100 a share is: the rarer of it and its complement has two digits, so neither becomes none.

    >>> format_hundred(0.0152), format_hundred(0.41), format_hundred(0.9), format_hundred(0.0)
    ('1.5', '41', '90', '0')
    >>> format_hundred(0.0004), format_hundred(0.9975)
    ('0.040', '99.75')
    """
    rarer = round(min(share, 1 - share), 12)
    decimals = max(0, -1 - math.floor(math.log10(rarer))) if rarer > 0 else 0
    return f"{100 * share:.{decimals}f}"
