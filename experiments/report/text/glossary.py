"""What the technical terms of a report mean, in plain words; the entries are in glossary.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Term:
    """One entry of the glossary.

    Attributes:
        key: its anchor on the page is `term-KEY`.
        title: the term.
        text: what it means, for `name_sites`.
        words: how it is written in a text, as regular expressions without regard to case; empty: as the title.
    """

    key: str
    title: str
    text: str
    words: tuple[str, ...] = ()


@cache
def load_glossary() -> tuple[Term, ...]:
    """Return the entries, in the order of their keys."""
    entries = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return tuple(
        Term(key, entry["title"], entry["text"], tuple(entry.get("words", ()))) for key, entry in entries.items()
    )


@cache
def compile_terms() -> re.Pattern[str]:
    """Return an expression that matches any term as a whole word, longer ones first; the group's name has the key."""
    parts = sorted(
        ((f"{word}s?", term.key) for term in load_glossary() for word in term.words or (re.escape(term.title),)),
        key=lambda part: -len(part[0]),
    )
    union = "|".join(f"(?P<{key}_{number}>{word})" for number, (word, key) in enumerate(parts))
    return re.compile(rf"(?<![\w-])(?:{union})(?![\w-])", re.IGNORECASE)


def find_key(match: re.Match[str]) -> str:
    """Return the key of a match of `compile_terms`.

    >>> find_key(compile_terms().search("a calibration slope of 1"))
    'slope'
    """
    return str(match.lastgroup).rpartition("_")[0]
