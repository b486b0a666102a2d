"""A small table, its text, and what is found when it is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.settings import validate_settings
from sites.datasets.table.description import Description
from sites.datasets.table.examine import Table, load_table
from sites.datasets.table.guess import guess_description
from sites.datasets.table.suspicions import add_suspicions

N = 60
EVENT = [i * 7 % 3 == 0 for i in range(N)]
RATE = [60 + i * 37 % 50 for i in range(N)]


def columns(**changes: list[Any]) -> dict[str, list[Any]]:
    return {"patient_id": list(range(1, N + 1)), "hr": RATE, "died": [int(event) for event in EVENT]} | changes


def text(table: dict[str, list[Any]], delimiter: str = ",", end: str = "\n") -> str:
    lines = [table, *zip(*table.values(), strict=True)]
    return "".join(delimiter.join(map(str, line)) + end for line in lines)


def look(folder: Path, files: dict[str, str | bytes], **roles: Any) -> tuple[Description, list[str], Table]:
    """Return the description of some files, the findings as `level column: text`, and the table."""
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    table = load_table(folder / next(iter(files)) if len(files) == 1 else folder)
    description = guess_description(table, **roles)
    add_suspicions(table, description)
    return description, [f"{item.level} {item.column}: {item.text}" for item in table.findings], table


def has(findings: list[str], words: str) -> bool:
    return any(words in finding for finding in findings)


def described(**changes: Any) -> Description:
    raw = {"outcome": {"column": "died", "values": ["0", "1"]}, "inputs": [{"name": "hr"}]} | changes
    return validate_settings(Description, raw, "test")
