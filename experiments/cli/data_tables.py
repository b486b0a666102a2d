"""The tables of `wardround data`: the list of data sets, checked files, a data set's card with its counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from common import plugins
from common.table_one import TableOneRow
from experiments import generate_data
from sites import datasets
from sites.cohort import DataCard
from sites.download.catalogue import find_download
from sites.download.verify import Verification

NOTICE = "SYNTHETIC data: generated, not from patients"
MAX_LINES = 20
"""Largest number of lines of one kind that are printed; --json prints all."""


def load_card(name: str) -> DataCard:
    """Return a data set's card."""
    card: DataCard = plugins.load_plugin("sites.datasets", "CARD", name, "data set").CARD
    return card


def catalogue_rows() -> list[dict[str, Any]]:
    """Return every data set's card and how to get it, JSON-ready."""
    generators = generate_data.list_generators()
    rows = []
    for name in datasets.dataset_names():
        source = find_download(name)
        rows.append(
            {
                **asdict(load_card(name)),
                "fetch": bool(source and source.files),
                "size": source.size if source else None,
                "page": source.page if source else None,
                "by_hand": source.by_hand or None if source else None,
                "folder": str(source.folder) if source else None,
                "parts": sorted(source.parts) if source else [],
                "synth": name in generators,
            }
        )
    return rows


def render_list(rows: list[dict[str, Any]]) -> Group:
    """Return the list of data sets as a table, with a hint at the other commands."""
    table = _table("name", "data set", "fetch", "synth", "licence")
    for row in rows:
        fetched = row["size"] if row["fetch"] else "by hand (login)" if row["by_hand"] else "-"
        title = Text(row["title"], style="yellow" if row["synthetic"] else "")
        table.add_row(Text(row["name"], style="bold"), title, fetched, "yes" if row["synth"] else "-", row["licence"])
    hint = "wardround data fetch NAME, synth NAME DIR, describe NAME; source and citation: data list --json"
    return Group(table, Text(), Text(hint, style="dim"))


def render_verification(name: str, folder: Path, result: Verification) -> Group:
    """Return the counts of checked files, and what is wrong with which file."""
    counts = [f"{result.ok:,} ok", f"{len(result.damaged):,} damaged", f"{len(result.missing):,} missing"]
    if result.copies:
        counts.append(f"{len(result.copies):,} with the bytes of another")
    if result.unlisted:
        counts.append(f"{len(result.unlisted):,} not in the list")
    if result.unchecked:
        counts.append(f"{result.unchecked:,} of other kinds not checked")
    if result.unfinished:
        counts.append(f"{result.unfinished:,} unfinished downloads")
    if result.records is not None:
        counts.append(f"{result.records:,} recordings or stays readable")
    if result.units is not None and result.published is not None:
        counts.append(f"{result.units:,} of the {result.published:,} published files of a recording or patient")
    parts: list[Any] = [
        Text(f"{name} in {folder}, by {result.by}"),
        Text(f"  {', '.join(counts)}", style="green" if result.good else "bold red"),
    ]
    lines = [f"  damaged: {path}: {why}" for path, why in result.damaged.items()]
    lines += [f"  missing: {path}" for path in result.missing]
    lines += [f"  same bytes: {path} and {other}: one recording twice?" for path, other in result.copies.items()]
    lines += [f"  not in the list: {path}: not the publisher's, or the list is cut" for path in result.unlisted]
    parts += [Text(line) for line in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        parts.append(Text(f"  and {len(lines) - MAX_LINES:,} more: --json names all", style="dim"))
    if not result.good and (source := find_download(name)) and source.files:
        parts.append(Text(f"  wardround data fetch {name} {folder} fetches the damaged and missing files", style="dim"))
    return Group(*parts)


def render_description(described: dict[str, Any]) -> Group:
    """Return a data set's card with its counts; `described` is as from `sites.disclosure.describe`."""
    about = described["card"]
    parts: list[Any] = [Text(about["title"], style="bold")]
    if described["synthetic"]:
        parts.append(Text(f" {NOTICE} ", style="bold black on yellow"))
    if about["warning"]:
        parts.append(Text(f" {about['warning']} ", style="bold white on red"))
    grid = Table.grid(padding=(0, 2))
    for key in ("inputs", "labels", "sites", "splits", "licence", "source", "citation"):
        grid.add_row(Text(key, style="dim"), Text(about[key]))
    grid.add_row(Text("task", style="dim"), Text(_task(described["task"])))
    grid.add_row(Text("folder", style="dim"), Text(described["folder"]))
    note = "class columns: patients with at least one example of the class"
    parts += [grid, Text(), _hospitals(described), Text(note, style="dim"), *map(Text, _people(described))]
    if described["missing"]:
        parts += [Text(), *_missing(described)]
    if described["excluded"]:
        parts += [Text(), Text("excluded", style="bold")]
        parts += [Text(f"  {what}: {_cell(number)}") for what, number in described["excluded"].items()]
    if described["min_people"] > 1:
        note = f"Counts of fewer than {described['min_people']} people, and counts that would reveal them, are hidden."
        parts += [Text(), Text(note, style="dim")]
    return Group(*parts)


def _hospitals(described: dict[str, Any]) -> Table:
    """Return a table of patients by hospital and class; of more than MAX_LINES hospitals the largest."""
    names = list(described["classes"])
    table = _table("hospital", "patients", "recordings", "examples", *names, numbers=True)
    rows = described["sites"] if len(described["sites"]) > 1 else []
    if len(rows) > MAX_LINES:
        rows = sorted(rows, key=lambda row: -row["recordings"] if isinstance(row["recordings"], int) else 0)
    for row in rows[:MAX_LINES]:
        cells = [row["patients"], row["recordings"], row["examples"], *row["classes"].values()]
        table.add_row(row["site"], *map(_cell, cells))
    if len(rows) > MAX_LINES:
        table.add_row(Text(f"{len(rows) - MAX_LINES} smaller: --json", style="dim"))
    people = [described["classes"][name]["patients"] for name in names]
    every = [described["patients"], described["recordings"], described["examples"], *people]
    table.add_row(Text("all", style="bold"), *map(_cell, every))
    examples = [described["classes"][name]["examples"] for name in names]
    table.add_row(Text("examples", style="dim"), "", "", "", *map(_cell, examples))
    return table


def _people(described: dict[str, Any]) -> list[str]:
    lines = []
    if (age := described["age"]) is not None:
        low, middle, high = age["quartiles"] or (None, None, None)
        spread = f"median {middle}, quartiles {low} and {high}" if age["quartiles"] else "too few to show"
        lines.append(
            f"age: {spread}" + (f", unknown of {_cell(age['unknown'])}" if age["unknown"] not in (0, "hidden") else "")
        )
    if (sex := described["sex"]) is not None:
        visible = {name: number for name, number in sex.items() if number != 0 or name != "unknown"}
        few = all(number == "hidden" for number in visible.values())
        counts = ", ".join(f"{name} {_cell(number)}" for name, number in visible.items())
        lines.append(f"sex: {'too few to show' if few else counts}")
    return ["", *lines] if lines else []


def _missing(described: dict[str, Any]) -> list[Any]:
    """Return the table of missing values; inputs with the same counts, such as derived ones, share a line."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for line in described["missing"]:
        alike.setdefault((line["share"], line["never"], *line["sites"].values()), []).append(line["input"])
    sites = list(described["missing"][0]["sites"])
    sites = sites if 1 < len(sites) <= 6 else []
    table = _table("missing values", "share", "never in", *sites, numbers=True)
    for (share, never, *each), inputs in list(alike.items())[:MAX_LINES]:
        name = ", ".join(inputs[:3]) + (f" and {len(inputs) - 3} more" if len(inputs) > 3 else "")
        visible = f"{share:.0%}" if isinstance(share, float) else share
        table.add_row(name, visible, _cell(never), *(map(_cell, each) if sites else ()))
    notes = [f"never in: people without a single measurement{', in all and by hospital' if sites else ''}"]
    if len(alike) > MAX_LINES:
        notes.append(f"{len(alike) - MAX_LINES} more lines: --json")
    if described["complete"]:
        notes.append(f"{described['complete']} other inputs have no missing values")
    return [table, *(Text(note, style="dim") for note in notes)]


def _table(*heads: str, numbers: bool = False) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if numbers and index else "left", overflow="fold", no_wrap=not index)
    return table


def _task(task: dict[str, Any]) -> str:
    parts = [task["name"]]
    if task["channels"]:
        rate = f" at {task['rate_hz']:g} Hz" if task["rate_hz"] else ""
        parts.append(
            f"{task['channels']} channel{'' if task['channels'] == 1 else 's'} of {task['samples']} samples{rate}"
        )
    if task["features"]:
        parts.append(f"{task['features']} features")
    return "; ".join(parts)


def _cell(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def render_table_one(hospitals: Sequence[str], rows: Sequence[TableOneRow]) -> list[Table]:
    """Return Table 1, a few hospitals side by side in each part so that a line holds 80 characters."""
    width = max(1, min(3, len(hospitals)))
    parts = []
    for first in range(0, len(hospitals), width):
        part = _table("patients: number (share), or median (quartiles)", *hospitals[first : first + width])
        for row in rows:
            part.add_row(Text(row.name), *(Text(cell) for cell in row.cells[first : first + width]))
        parts.append(part)
    return parts
