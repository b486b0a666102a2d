"""Writing a description as a commented YAML file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import yaml

from sites.datasets.table.description import FORMAT, Description, Input
from sites.datasets.table.examine import Finding, Table

finding_titles = {"wrong": "TO CORRECT", "check": "to check", "note": "note"}
"""How a comment names the level of a finding."""


def render_description(description: Description, table: Table) -> str:
    """Return the text of a description's file, with what was found about each column as comments."""
    read = description.read
    lines = [
        f"# Which column of {', '.join(read.files[:3])} is what. Made by: wardround data init. Read it, correct it,",
        "# and keep it with the data. read is this hospital's own; all below it is the same at every hospital.",
        *_general(table.findings),
        "dataset: table",
        f"format: {FORMAT}",
        f"title: {yaml_text(description.title)}",
        f"source: {yaml_text(description.source)}        # where the data come from, for the report",
        f"licence: {yaml_text(description.licence)}",
        "read:",
        f"  files: {yaml_list(read.files)}",
    ]
    if read.delimiter != "," or read.decimal != "." or read.encoding != "utf-8":
        lines += [
            f"  delimiter: {yaml_text(read.delimiter)}",
            f"  decimal: {yaml_text(read.decimal)}",
            f"  encoding: {read.encoding}",
        ]
    lines.append(f"  missing: {yaml_list(read.missing)}        # what stands in a cell that was not measured")
    if read.hospital:
        lines.append(f"  hospital: {yaml_text(read.hospital)}{_note(table, read.hospital)}")
    else:
        lines.append(
            f"  hospital_from: {read.hospital_from}        # file: each file is a hospital; folder: all files are one"
        )
    lines.append(
        f"patient: {yaml_text(description.patient)}{_note(table, description.patient)}"
        if description.patient
        else "patient: null        # each row is a patient"
    )
    lines.append(f"age: {yaml_text(description.age) if description.age else 'null'}")
    if description.sex:
        sex = description.sex
        lines.append(
            f"sex: {{column: {yaml_text(sex.column)}, female: {yaml_list(sex.female)}, male: {yaml_list(sex.male)}}}"
            + _note(table, sex.column)
        )
    if time := description.time:
        lines += [
            "time:",
            f"  column: {yaml_text(time.column)}{_note(table, time.column)}",
            f"  ahead_hours: {time.ahead_hours:g}        # a row is an event's if it begins within so many hours",
            f"  after: {time.after}        # rows after the event has begun: drop, or keep",
        ]
    outcome = description.outcome
    lines += [
        "outcome:",
        f"  column: {yaml_text(outcome.column)}{_note(table, outcome.column)}",
        f"  values: {yaml_list(outcome.values)}"
        + ("        # the second is the event" if len(outcome.values) == 2 else ""),
        f"  classes: {yaml_list(outcome.names)}",
        f"  title: {yaml_text(outcome.title)}",
        "inputs:",
    ]
    for item in description.inputs:
        lines.append(f"  - {_input(item)}{_note(table, item.source)}")
    left_out = [name for name in table.columns if name not in {*description.needed_columns(), read.hospital}]
    if left_out:
        lines.append("# Columns that are not read:")
        lines += [f"#   {name}: {_findings(table, name) or 'not used'}" for name in left_out]
    return "\n".join(lines) + "\n"


def _input(item: Input) -> str:
    parts = [f"name: {yaml_text(item.name)}"]
    if item.column:
        parts.append(f"column: {yaml_text(item.column)}")
    parts.append(f"kind: {item.kind}")
    if item.kind == "number":
        if item.unit:
            parts.append(f"unit: {yaml_text(item.unit)}")
        if item.range:
            parts.append(f"range: [{item.range[0]:g}, {item.range[1]:g}]")
    elif item.kind == "yes_no":
        parts += [f"yes_values: {yaml_list(item.yes_values)}", f"no_values: {yaml_list(item.no_values)}"]
    else:
        parts.append(f"values: {yaml_list(item.values)}")
    if item.indicator:
        parts.append("indicator: true")
    return "{" + ", ".join(parts) + "}"


def _note(table: Table, name: str | None) -> str:
    if name is None or name not in table.columns:
        return ""
    column = table.columns[name]
    missing = int((~column.present).sum())
    notes = (
        [f"{100 * missing / table.rows:.0f}% missing" if missing * 200 > table.rows else "few missing"]
        if missing
        else []
    )
    if result := _findings(table, name):
        notes.append(result)
    return f"        # {'; '.join(notes)}" if notes else ""


def _findings(table: Table, name: str) -> str:
    return "; ".join(f"{finding_titles[item.level]}: {item.text}" for item in table.findings if item.column == name)


def _general(findings: Sequence[Finding]) -> list[str]:
    return [f"# {finding_titles[item.level]}: {item.text}" for item in findings if not item.column]


def yaml_text(value: str) -> str:
    """Return a text as YAML writes it in one line, in quotes where it would be read as something else."""
    plain = (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
        .strip()
        .removesuffix("...")
        .strip()
    )
    return json.dumps(value, ensure_ascii=False) if any(mark in plain for mark in ",[]{}:#\n") or not plain else plain


def yaml_list(values: Iterable[str]) -> str:
    """Return texts as a list that YAML reads back, in one line."""
    return "[" + ", ".join(yaml_text(value) for value in values) + "]"


def render_run(name: str, folder: str, description: Description) -> str:
    """Return the text of a configuration that trains on the described table."""
    hospitals = description.read.hospital or description.read.hospital_from == "file"
    lines = [
        f"# A federation over {description.title or name}: wardround run THIS FILE. Made by: wardround data init.",
        f"name: {name}",
        f"title: {yaml_text(description.outcome.title or description.outcome.column)}",
        "seed: 1",
        "data:",
        "  dataset: table",
        f"  path: {yaml_text(folder)}        # the folder with table.yaml",
        "  scaling: standard",
        "sites:",
        "  scheme: natural"
        if hospitals
        else "  scheme: even        # no column names hospitals: patients are divided evenly\n  count: 3",
        "  split: patient",
        "  validation: 0.2",
        "  test: 0.25",
        "model:",
        "  name: logreg",
        "training:",
        "  epochs: 1",
        "  batch_size: 65536       # a whole hospital: each round is one step of pooled training",
        "  optimizer: sgd",
        "  lr: 0.5",
        "  momentum: 0.0",
        "  weight_decay: 0.01",
        "  loss: cross_entropy",
        "federation:",
        "  rounds: 100",
        "  choose: last",
        "evaluation:",
        f"  metric: {'auroc' if len(description.outcome.values) == 2 else 'macro_f1'}",
    ]
    if len(description.outcome.values) == 2:
        lines.append("  threshold: youden        # chosen on validation patients")
    lines.append(
        "  domain_shift: true       # describe each hospital's inputs in the report (Table 1), and compare them"
    )
    groups = [
        *(["sex: true"] if description.sex else []),
        *(["age: [40.0, 65.0, 80.0]"] if description.age else []),
    ]
    if groups:
        lines.append(f"  subgroups: {{{', '.join(groups)}}}")
    return "\n".join(lines) + "\n"
