"""The technical terms of the page in plain words; experiments/report/pages/terms.py fills them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.report.document.report import Report
from experiments.report.pages import terms
from experiments.report.pages.section import Section


def _build(_: Report) -> Mapping[str, Any]:
    return {"slot": terms.SLOT}


SECTION = Section("glossary", "Glossary", after="method", build=_build)
