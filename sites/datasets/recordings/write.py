"""Writing the description of a folder of recordings as a commented YAML file."""

from __future__ import annotations

from sites.datasets.recordings.description import FORMAT, Description
from sites.datasets.recordings.guess import Look
from sites.datasets.table.write import finding_titles, yaml_list, yaml_text

MIN_PERSONS = 20
"""Patients below which the run takes the last round, because validation would rest on none or one of a hospital."""


def render_description(description: Description, look: Look) -> str:
    """Return the text of a description's file, with what was found in the folder as comments."""
    read = description.read
    lines = [
        "# Which recordings, whose they are, and what is predicted. Made by: wardround data init. Read it, correct it,",
        "# and keep it with the data. read is this hospital's own; all below it is the same at every hospital.",
        *(f"# {finding_titles[item.level]}: {item.text}" for item in look.findings),
        f"# {len(look.names)} recordings; leads: {_counts(look.leads)}; Hz: {_counts(look.rates)}",
        "dataset: recordings",
        f"format: {FORMAT}",
        f"title: {yaml_text(description.title)}",
        f"source: {yaml_text(description.source)}        # where the data come from, for the report",
        f"licence: {yaml_text(description.licence)}",
        "read:",
        f"  files: {read.files}",
        f"  annotator: {read.annotator or 'null'}        # ending of the annotation files",
    ]
    if table := read.table:
        lines += [
            "  table:        # one row a recording",
            f"    file: {yaml_text(table.file)}",
            f"    delimiter: {yaml_text(table.delimiter)}",
            f"    decimal: {yaml_text(table.decimal)}",
            f"    encoding: {table.encoding}",
            f"    missing: {yaml_list(table.missing)}",
            f"    recording: {yaml_text(table.recording)}",
            *(
                f"    {role}: {yaml_text(column) if column else 'null'}"
                for role, column in (
                    ("label", table.label),
                    ("patient", table.patient),
                    ("hospital", table.hospital),
                    ("age", table.age),
                )
            ),
        ]
        if sex := table.sex:
            lines.append(
                f"    sex: {{column: {yaml_text(sex.column)}, female: {yaml_list(sex.female)}, "
                f"male: {yaml_list(sex.male)}}}"
            )
    lines += [
        f"  patient: {read.patient}        # header: by header, name and contents; folder; recording: one each",
        "  persons: {}        # recording: patient, for those whom the rule above gets wrong",
        f"  hospital: {read.hospital}        # whole: one hospital; folder: each folder is one",
        f"  skip: {yaml_list(read.skip)}        # recordings that are not used, such as those of paced hearts",
        "  leads: {}        # name in these files: name at the other hospitals",
        f"examples: {description.examples}        # beats, or strips of some seconds",
        f"labels: {description.labels}        # beats or rhythms: of the annotations; table: of the recording",
        f"target: {yaml_text(description.target)}",
        "classes:        # values: what stands for the class",
    ]
    for item in description.classes:
        title = f", title: {yaml_text(item.title)}" if item.title else ""
        total = sum(look.beats[value] for value in item.values) or sum(look.rhythms[value] for value in item.values)
        note = f"        # {total:,} annotations" if total else ""
        lines.append(f"  - {{name: {yaml_text(item.name)}{title}, values: {yaml_list(item.values)}}}{note}")
    if description.examples == "beats":
        lines += [
            "view: window        # or kachuee: see docs/how-to/own-data.md",
            f"leads: {min(2, max(look.leads.values(), default=1))}        # 1 or 2; MLII or II comes first",
            "relative: true      # add what is relative to the recording's median beat",
            "shape: 0            # leads whose waves are measured",
        ]
    else:
        band = description.band
        lines += [
            f"strip_leads: {yaml_list(description.strip_leads)}",
            f"seconds: {description.seconds}",
            f"rate: {description.rate}        # Hz",
            f"band: {[band[0], band[1]] if band else 'null'}        # pass band in Hz; null: not filtered",
        ]
    return "\n".join(lines) + "\n"


def _counts(counter: dict[str, int] | dict[float, int]) -> str:
    items = sorted(counter.items(), key=lambda item: -item[1])[:8]
    return ", ".join(f"{name:g} ({n})" if isinstance(name, float) else f"{name} ({n})" for name, n in items) or "none"


def render_run(name: str, folder: str, description: Description, look: Look) -> str:
    """Return the text of a configuration that trains on the described recordings."""
    read = description.read
    natural = read.hospital == "folder" or bool(read.table and read.table.hospital)
    lines = [
        f"# A federation over {description.title}: wardround run THIS FILE. Made by: wardround data init.",
        f"name: {name}",
        f"title: {yaml_text(description.target or name)}",
        "seed: 1",
        "data:",
        "  dataset: recordings",
        f"  path: {yaml_text(folder)}        # the folder with recordings.yaml",
        "sites:",
        "  scheme: natural"
        if natural
        else "  scheme: even        # nothing names hospitals: patients are divided evenly\n"
        f"  count: {max(2, min(3, look.persons // 4))}",
        "  split: patient",
        "  validation: 0.2",
        "  test: 0.25",
        "model:",
        "  name: cnn",
        "training:",
        "  epochs: 2",
        "  batch_size: 64",
        "  lr: 0.004",
        "  augment: 1.0" if description.examples == "beats" else "  augment: 0.5",
        "federation:",
        "  rounds: 10",
        *(
            ["  choose: last        # so few patients leave no or one patient of a hospital to choose the round by"]
            if look.persons < MIN_PERSONS
            else []
        ),
        "evaluation:",
        f"  metric: {'auroc' if len(description.classes) == 2 else 'macro_f1'}",
    ]
    return "\n".join(lines) + "\n"
