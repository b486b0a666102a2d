"""`wardround data`'s tables: the list of data sets, what was checked, a data set's card with its counts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from common import plugins
from experiments import generate_data
from sites import datasets
from sites.cohort import DataCard
from sites.download import catalogue as published
from sites.download.verify import Verification

NOTICE = "SYNTHETIC data: generated, no patient's"
MAX_LINES = 20
"""Lines of one kind that are shown; --json has all."""


def load_card(name: str) -> DataCard:
    """Return a data set's card."""
    found: DataCard = plugins.load_plugin("sites.datasets", "CARD", name, "data set").CARD
    return found


def catalogue_rows() -> list[dict[str, Any]]:
    """Return what there is to know of every data set: its card, and how it is had."""
    made = generate_data.list_generators()
    rows = []
    for name in datasets.dataset_names():
        source = published.find_download(name)
        rows.append(
            {
                **asdict(load_card(name)),
                "fetch": bool(source and source.files),
                "size": source.size if source else None,
                "page": source.page if source else None,
                "by_hand": source.by_hand or None if source else None,
                "folder": str(source.folder) if source else None,
                "parts": sorted(source.parts) if source else [],
                "synth": name in made,
            }
        )
    return rows


def render_list(rows: list[dict[str, Any]]) -> Group:
    """Return the list of data sets."""
    table = _table("name", "data set", "fetch", "synth", "licence")
    for row in rows:
        fetched = row["size"] if row["fetch"] else "by hand (login)" if row["by_hand"] else "-"
        title = Text(row["title"], style="yellow" if row["synthetic"] else "")
        table.add_row(Text(row["name"], style="bold"), title, fetched, "yes" if row["synth"] else "-", row["licence"])
    hint = "wardround data fetch NAME, synth NAME DIR, describe NAME; source and citation: data list --json"
    return Group(table, Text(), Text(hint, style="dim"))


def render_verification(name: str, folder: Path, found: Verification) -> Group:
    """Return what was checked, and what is wrong with which file."""
    counts = [f"{found.ok:,} ok", f"{len(found.damaged):,} damaged", f"{len(found.missing):,} missing"]
    if found.unchecked:
        counts.append(f"{found.unchecked:,} of other kinds not checked")
    if found.unfinished:
        counts.append(f"{found.unfinished:,} unfinished downloads")
    if found.records is not None:
        counts.append(f"{found.records:,} recordings or stays readable")
    parts: list[Any] = [
        Text(f"{name} in {folder}, by {found.by}"),
        Text(f"  {', '.join(counts)}", style="green" if found.good else "bold red"),
    ]
    lines = [f"  damaged: {path}: {why}" for path, why in found.damaged.items()]
    lines += [f"  missing: {path}" for path in found.missing]
    parts += [Text(line) for line in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        parts.append(Text(f"  and {len(lines) - MAX_LINES:,} more: --json names all", style="dim"))
    if not found.good and (source := published.find_download(name)) and source.files:
        parts.append(Text(f"  wardround data fetch {name} {folder} fetches what is damaged or missing", style="dim"))
    return Group(*parts)


def render_description(found: dict[str, Any]) -> Group:
    """Return a data set's card with its counts."""
    about = found["card"]
    parts: list[Any] = [Text(about["title"], style="bold")]
    if found["synthetic"]:
        parts.append(Text(f" {NOTICE} ", style="bold black on yellow"))
    if about["warning"]:
        parts.append(Text(f" {about['warning']} ", style="bold white on red"))
    grid = Table.grid(padding=(0, 2))
    for key in ("inputs", "labels", "sites", "splits", "licence", "source", "citation"):
        grid.add_row(Text(key, style="dim"), Text(about[key]))
    grid.add_row(Text("task", style="dim"), Text(_task(found["task"])))
    grid.add_row(Text("folder", style="dim"), Text(found["folder"]))
    note = "of a class: patients who have examples of it"
    parts += [grid, Text(), _hospitals(found), Text(note, style="dim"), *map(Text, _people(found))]
    if found["missing"]:
        parts += [Text(), *_missing(found)]
    if found["excluded"]:
        parts += [Text(), Text("left out", style="bold")]
        parts += [Text(f"  {what}: {_cell(number)}") for what, number in found["excluded"].items()]
    if found["least"] > 1:
        note = f"Counts of fewer than {found['least']} people are not shown, nor what would give them away (hidden)."
        parts += [Text(), Text(note, style="dim")]
    return Group(*parts)


def _hospitals(found: dict[str, Any]) -> Table:
    """Return people by hospital and class; of very many hospitals the largest."""
    names = list(found["classes"])
    table = _table("hospital", "patients", "recordings", "examples", *names, numbers=True)
    rows = found["sites"] if len(found["sites"]) > 1 else []
    if len(rows) > MAX_LINES:
        rows = sorted(rows, key=lambda row: -row["recordings"] if isinstance(row["recordings"], int) else 0)
    for row in rows[:MAX_LINES]:
        cells = [row["patients"], row["recordings"], row["examples"], *row["classes"].values()]
        table.add_row(row["site"], *map(_cell, cells))
    if len(rows) > MAX_LINES:
        table.add_row(Text(f"{len(rows) - MAX_LINES} smaller: --json", style="dim"))
    people = [found["classes"][name]["patients"] for name in names]
    every = [found["patients"], found["recordings"], found["examples"], *people]
    table.add_row(Text("all", style="bold"), *map(_cell, every))
    examples = [found["classes"][name]["examples"] for name in names]
    table.add_row(Text("examples of it", style="dim"), "", "", "", *map(_cell, examples))
    return table


def _people(found: dict[str, Any]) -> list[str]:
    lines = []
    if (age := found["age"]) is not None:
        low, middle, high = age["quartiles"] or (None, None, None)
        spread = f"median {middle}, half of them {low} to {high}" if age["quartiles"] else "too few to tell"
        lines.append(
            f"age: {spread}" + (f", unknown of {_cell(age['unknown'])}" if age["unknown"] not in (0, "hidden") else "")
        )
    if (sex := found["sex"]) is not None:
        told = {name: number for name, number in sex.items() if number != 0 or name != "unknown"}
        few = all(number == "hidden" for number in told.values())
        lines.append("sex: " + ("too few to tell" if few else ", ".join(f"{k} {_cell(n)}" for k, n in told.items())))
    return ["", *lines] if lines else []


def _missing(found: dict[str, Any]) -> list[Any]:
    """Return what is missing; inputs that are missing alike, since one is made of the other, share a line."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for line in found["missing"]:
        alike.setdefault((line["share"], line["never"], *line["sites"].values()), []).append(line["input"])
    sites = list(found["missing"][0]["sites"])
    sites = sites if 1 < len(sites) <= 6 else []
    table = _table("missing values", "share", "never in", *sites, numbers=True)
    for (share, never, *each), inputs in list(alike.items())[:MAX_LINES]:
        name = ", ".join(inputs[:3]) + (f" and {len(inputs) - 3} more" if len(inputs) > 3 else "")
        shown = f"{share:.0%}" if isinstance(share, float) else share
        table.add_row(name, shown, _cell(never), *(map(_cell, each) if sites else ()))
    notes = [f"never in: people in whom it was never measured{', in all and by hospital' if sites else ''}"]
    if len(alike) > MAX_LINES:
        notes.append(f"{len(alike) - MAX_LINES} more lines: --json")
    if found["complete"]:
        notes.append(f"{found['complete']} other inputs are always there")
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
