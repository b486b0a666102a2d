"""A first federation over DataFrames, one a hospital: the description is guessed, as `wardround data init` does."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from common.config import parse_config
from common.errors import DataError, UsageError
from common.files import write_text
from common.settings import parse_yaml
from experiments.python.progress import NotebookProgress
from experiments.python.runs import FINDINGS, Run

HOSPITAL = "hospital"
FILE = "patients.parquet"


def federate(
    hospitals: Mapping[str, pd.DataFrame],
    outcome: str,
    *,
    patient: str | None = None,
    title: str = "",
    settings: Sequence[str] = (),
    runs: str | Path = "runs",
    progress: bool = True,
) -> Run:
    """Train a federation over DataFrames in this process, and return the run.

    For a first look. What each column is, is guessed: look at `run.findings`, and write a description (`wardround data
    init`) for anything more. The rows are written into a temporary folder, which is removed at the end.

    Args:
        hospitals: the rows of each hospital, all with the same columns.
        outcome: the column to predict.
        patient: the column that says which patient; None: guessed, and each row is a patient where there is none.
        title: what is predicted, in words.
        settings: overrides such as "model.name=mlp" or "federation.rounds=20".
        runs: the folder of all run folders.
        progress: whether a progress bar is shown.

    Raises:
        UsageError: no hospital, or what is given is no DataFrame.
        DataError: a column is missing, or the rows cannot be used.
    """
    from experiments.runs.run import run_experiment
    from sites.datasets.table.examine import load_table
    from sites.datasets.table.guess import guess_description
    from sites.datasets.table.suspicions import add_suspicions
    from sites.datasets.table.write import render_run

    whole = join_hospitals(hospitals, outcome)
    with tempfile.TemporaryDirectory(prefix="wardround-") as scratch, NotebookProgress(progress) as watcher:
        folder = Path(scratch)
        whole.to_parquet(folder / FILE, index=False)
        table = load_table(folder / FILE)
        description = guess_description(table, outcome=outcome, patient=patient, hospital=HOSPITAL)
        add_suspicions(table, description)
        if title:
            named = description.outcome.model_copy(update={"title": title})
            description = description.model_copy(update={"outcome": named})
        config = parse_yaml(render_run("federate", str(folder), description))
        config["data"] |= {"options": description.model_dump(mode="json"), "cache": str(folder / "cache")}
        run = Run(run_experiment(parse_config(config, list(settings)), Path(runs), watcher))
        lines = [f"{item.level}: {f'{item.column}: ' if item.column else ''}{item.text}" for item in table.findings]
        write_text(run.folder / FINDINGS, "\n".join(lines))
    return run


def join_hospitals(hospitals: Mapping[str, pd.DataFrame], outcome: str) -> pd.DataFrame:
    """Return the rows of all hospitals with a column that names the hospital.

    Raises:
        UsageError: no hospital, or what is given is no DataFrame.
        DataError: a hospital lacks a column that another has.
    """
    if not isinstance(hospitals, Mapping):
        raise UsageError(
            "federate: give the DataFrames by hospital, as in {'north': df1, 'south': df2}, or "
            "dict(tuple(df.groupby('hospital'))) of one with a column of the hospital; "
            f"not a {type(hospitals).__name__}"
        )
    if not hospitals:
        raise UsageError("federate: give at least one hospital, as in {'north': df}")
    for name, frame in hospitals.items():
        if not isinstance(frame, pd.DataFrame):
            raise UsageError(f"federate: {name}: a DataFrame is needed, not {type(frame).__name__}")
    columns = list(dict.fromkeys(str(column) for frame in hospitals.values() for column in frame.columns))
    if outcome not in columns:
        raise DataError(f"federate: no column {outcome}; there are {', '.join(columns[:20])}")
    for name, frame in hospitals.items():
        if absent := [column for column in columns if column not in map(str, frame.columns) and column != HOSPITAL]:
            raise DataError(f"federate: {name} has no column {absent[0]}, which another hospital has")
    parts = [frame.rename(columns=str).assign(**{HOSPITAL: name}) for name, frame in hospitals.items()]
    return pd.concat(parts, ignore_index=True)
