"""Writing the description of a MEDS extract as a commented YAML file."""

from __future__ import annotations

from sites.datasets.meds.description import FORMAT, Description
from sites.datasets.meds.guess import Codes
from sites.datasets.table.write import finding_titles, yaml_list, yaml_text


def render_description(description: Description, codes: Codes) -> str:
    """Return the text of a description's file, with what was found in the extract as comments."""
    read, outcome = description.read, description.outcome
    lines = [
        "# When is predicted, what, and from which codes. Made by: wardround data init. Read it, correct it, and",
        "# keep it with the data. read is this hospital's own; all below it is the same at every hospital.",
        *(f"# {finding_titles[item.level]}: {item.text}" for item in codes.findings),
        f"# {codes.total:,} people, {sum(codes.events.values()):,} events, {len(codes.events):,} codes",
        "dataset: meds",
        f"format: {FORMAT}",
        f"title: {yaml_text(description.title)}",
        f"source: {yaml_text(description.source)}        # where the data come from, for the report",
        f"licence: {yaml_text(description.licence)}",
        "read:",
        f"  data: {yaml_text(read.data)}",
        f"  hospital: {yaml_text(read.hospital) if read.hospital else 'null'}        # column with the hospital",
        f"  labels: {yaml_text(read.labels) if read.labels else 'null'}        # table of labels in the form of MEDS",
        f"  min_people: {read.min_people}        # an input of fewer people here is read as never recorded",
    ]
    if index := description.index:
        lines += [
            "index:        # the event that makes an example; * stands for any ending",
            f"  codes: {yaml_list(index.codes)}",
            f"  which: {index.which}        # of a person: first, or every",
            f"  after_hours: {index.after_hours:g}        # hours after it at which is predicted",
        ]
    lines += ["outcome:", f"  title: {yaml_text(outcome.title)}"]
    if outcome.codes:
        lines += [
            f"  codes: {yaml_list(outcome.codes)}",
            f"  within_hours: {outcome.within_hours:g}" if outcome.within_hours else "  within_hours: null",
        ]
    else:
        lines.append(f"  values: {yaml_list(outcome.values)}        # of the labels")
    lines += [
        f"  classes: {yaml_list(outcome.classes)}",
        f"window_hours: {description.window_hours:g}        # hours before the prediction that are used; null: all"
        if description.window_hours
        else "window_hours: null",
        f"birth: {yaml_text(description.birth) if description.birth else 'null'}        # for the age",
    ]
    if sex := description.sex:
        lines.append(f"sex: {{female: {yaml_list(sex.female)}, male: {yaml_list(sex.male)}}}")
    lines.append("inputs:        # summaries: count, last, mean; unit and range: [low, high] may be added")
    for item in description.inputs:
        source = f", codes: {yaml_list(item.codes)}" if item.codes else ""
        own = f"{{name: {yaml_text(item.name)}{source}, summaries: {yaml_list(item.summaries)}}}"
        lines.append(f"  - {own}        # {codes.people[item.patterns[0]]:,} people")
    return "\n".join(lines) + "\n"


def render_run(name: str, folder: str, description: Description, splits: bool) -> str:
    """Return the text of a configuration that trains on the extract; `splits`: whether splits are published."""
    outcome = description.outcome
    lines = [
        f"# A federation over {description.title}: wardround run THIS FILE. Made by: wardround data init.",
        f"name: {name}",
        f"title: {yaml_text(outcome.title or name)}",
        "seed: 1",
        "data:",
        "  dataset: meds",
        f"  path: {yaml_text(folder)}        # the folder with meds.yaml",
        "  scaling: standard",
        "sites:",
        "  scheme: natural"
        if description.read.hospital
        else "  scheme: even        # no column names hospitals: people are divided evenly\n  count: 3",
        *(["  split: published        # metadata/subject_splits.parquet"] if splits else ["  split: patient"]),
        *([] if splits else ["  validation: 0.2", "  test: 0.25"]),
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
        f"  metric: {'auroc' if len(outcome.classes) == 2 else 'macro_f1'}",
    ]
    if len(outcome.classes) == 2:
        lines.append("  threshold: youden        # chosen on validation patients")
    lines.append(
        "  domain_shift: true       # describe each hospital's inputs in the report (Table 1), and compare them"
    )
    groups = [
        *(["sex: true"] if description.sex else []),
        *(["age: [40.0, 65.0, 80.0]"] if description.birth else []),
    ]
    if groups:
        lines.append(f"  subgroups: {{{', '.join(groups)}}}")
    return "\n".join(lines) + "\n"
