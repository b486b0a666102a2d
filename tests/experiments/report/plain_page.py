"""A report's page without the marks of its terms, so that whole sentences can be compared."""

from __future__ import annotations

import re

from experiments.report.document.report import Report
from experiments.report.pages.html import render_html


def remove_marks(page: str) -> str:
    """Return a page with each marked term as plain text."""
    return re.sub(r'<(a|span) class="term"[^>]*>([^<]*)</\1>', r"\2", page)


def render_plain(report: Report) -> str:
    """Return the page without marks."""
    return remove_marks(render_html(report))
