"""The word for the sites of the data, such as region, in place of "hospital" in the program's own sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from experiments.report.document.report import Report

_WORD = re.compile(r"(?<!\bin )\b([Hh])ospital(s?)\b(?![-/=])")
"""Also in "hospital's"; but not in "died in hospital", nor in an address or a name such as hospital-1."""


def name_sites(text: str, report: Report, escape: Callable[[str], str] = str, markup: str = "") -> str:
    """Return a text with the word for the sites of the report's data; unchanged where they are hospitals.

    What the data card, the hospitals and the run say in their own words stays as it is.

    Args:
        text: the text, in which words of others were escaped.
        report: whose text it is.
        escape: how they were escaped.
        markup: pattern of what is no text, such as a tag.
    """
    kind = report.data.site_kind
    if kind == "hospital":
        return text
    own = sorted({escape(item) for item in _list_own_words(report) if "ospital" in item}, key=len, reverse=True)
    unchanged = "|".join([*([markup] if markup else []), *map(re.escape, own)])

    def name(part: str) -> str:
        return _WORD.sub(lambda match: (kind.capitalize() if match[1] == "H" else kind) + match[2], part)

    if not unchanged:
        return name(text)
    done, parts = 0, []
    for match in re.finditer(unchanged, text, re.DOTALL | re.IGNORECASE):
        parts += [name(text[done : match.start()]), match[0]]
        done = match.end()
    return "".join([*parts, name(text[done:])])


def _list_own_words(report: Report) -> Iterator[str]:
    """Yield what others wrote: titles, the data card, names, reasons and notices."""
    data = report.data
    yield from (data.title, data.inputs, data.labels, data.sites, data.splits, data.source, data.citation, data.licence)
    yield from (data.question, data.setting, data.warning, report.run.title, report.run.name, report.run.id)
    yield from report.class_titles.values()
    yield from report.task.get("features", ())
    yield from (notice.text for notice in report.notices)
    yield from (f"“{title}”" for title in report.class_titles.values())
    for model in report.models:
        yield model.title
    for site in report.sites:
        yield from (site.name, *site.excluded, *site.shift.values())
