"""A fact at the top of the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One key fact.

    Attributes:
        label: what it is about.
        value: the fact in a few words.
        detail: what it is based on.
        link: the section of the page with the details.
        alarm: whether it is a warning.
    """

    label: str
    value: str
    detail: str = ""
    link: str = ""
    alarm: bool = False
