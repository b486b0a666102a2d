"""Runs in Python: start one, open one, predict with its model, and compare several."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError, UsageError
from common.metrics.paired_resamples import POOLED
from common.metrics.registry import METRICS
from common.run_folder import RunFolder
from experiments.python.progress import NotebookProgress
from experiments.report.document.report import Report, read_report

if TYPE_CHECKING:
    from common.metrics.figures import Evaluation
    from experiments.scoring.score import ScoringModel

ALL_HOSPITALS = "all hospitals"
FINDINGS = "findings.txt"
"""File of a run folder with what looked wrong in the data of `federate`."""
Array = npt.NDArray[np.floating[Any]]


class Run:
    """A run with its report and models.

    Attributes:
        folder: the run's folder.
        report: the run's report, as read from report.json.
    """

    def __init__(self, folder: Path) -> None:
        """Open a run's folder.

        Raises:
            DataError: the folder holds no report.
        """
        self.folder = Path(folder)
        self.report: Report = read_report(self.folder)

    def __repr__(self) -> str:
        return f"<Run {self.report.run.id}: {self.report.run.status}, {len(self.report.sites)} hospitals>"

    @cached_property
    def sites(self) -> pd.DataFrame:
        """The federated model's metrics on test patients: a row for each hospital and one for all, a column a metric.

        `NAME low` and `NAME high` are the ends of the 95% interval of NAME, the metric that the run is judged by.
        """
        model = self.report.federated
        if model is None:
            return pd.DataFrame()
        rows = {site: self._row(evaluation) for site, evaluation in model.sites.items()}
        if model.pooled is not None:
            rows[ALL_HOSPITALS] = self._row(model.pooled)
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("hospital")

    def _row(self, evaluation: Evaluation) -> dict[str, float | int | None]:
        row: dict[str, float | int | None] = {"patients": evaluation.patients, "examples": evaluation.examples}
        main = self.report.metric
        for name in (main, *(name for name in METRICS if name != main)):
            figure = evaluation.figure(name)
            if figure is None or figure.value is None:
                continue
            row[name] = figure.value
            if name == main:
                row[f"{name} low"], row[f"{name} high"] = figure.low, figure.high
        return row

    @cached_property
    def models(self) -> pd.DataFrame:
        """Every model over all hospitals: a row a model, with the run's own metric and its 95% interval."""
        main = self.report.metric
        rows = {}
        for model in self.report.models:
            figure = model.pooled.figure(main) if model.pooled is not None else None
            if figure is not None:
                values = {main: figure.value, f"{main} low": figure.low, f"{main} high": figure.high}
                rows[model.name] = {"title": model.title} | values
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")

    @property
    def findings(self) -> tuple[str, ...]:
        """What looked wrong in the data of `federate`, a sentence each; empty for other runs."""
        file = self.folder / FINDINGS
        return tuple(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else ()

    def predict(
        self,
        inputs: pd.DataFrame | Array | tuple[Array, Array],
        site: str | None = None,
        model: str = "federated",
    ) -> pd.DataFrame:
        """Return the probability of each class and the predicted class for new patients.

        Args:
            inputs: a DataFrame with the columns of the run's table as they stand in its files (the outcome, the patient
                and the hospital need not be there), or with the model's inputs as columns; or an array `(examples,
                features)` in the order of the model's inputs, NaN where not measured; for a signal `(examples,
                channels, samples)`; or both, signal first.
            site: the hospital whose own layers or scaling to use, where the run has such.
            model: "federated", "pooled", "local:SITE", or "personal".

        Returns:
            a row an example, with a column for each class, and `predicted`; NaN and "" where no score is possible.

        Raises:
            DataError: the inputs are not those of the model.
        """
        from experiments.python.predict import predict_frame

        return predict_frame(self._open(model, site), inputs)

    def _open(self, model: str, site: str | None) -> ScoringModel:
        from experiments.scoring.score import open_model

        return open_model(self.folder, model, site)

    def _repr_html_(self) -> str:
        """Return the run as HTML, for notebooks: its notices, and the hospitals with the main metric."""
        report = self.report
        notices = "".join(
            f"<p><b>{html.escape(item.level)}</b>: {html.escape(item.text)}</p>" for item in report.notices
        )
        main = ("patients", report.metric, f"{report.metric} low", f"{report.metric} high")
        frame = self.sites
        table = frame[[name for name in main if name in frame]].to_html(float_format="{:.3f}".format, na_rep="")
        title = html.escape(report.run.title or report.run.id)
        page = html.escape(RunFolder(self.folder).report_page.as_posix())
        return f"<h4>{title}</h4>{notices}{table}<p>{html.escape(report.run.status)}; report: {page}</p>"


def run(
    config: str | Path | Mapping[str, Any],
    data: str | Path | None = None,
    settings: Sequence[str] = (),
    runs: str | Path = "runs",
    progress: bool = True,
) -> Run:
    """Run a configuration, as `wardround run` does, and return the run.

    Args:
        config: a YAML file, the name of an experiment such as "synthetic", or the keys themselves.
        data: the data folder, instead of `data.path`; DataFrames are for `federate`.
        settings: overrides such as "federation.rounds=5".
        runs: the folder of all run folders.
        progress: whether a progress bar is shown while it runs.

    Raises:
        UsageError: data is no folder.
        WardroundError: what went wrong, in one line.
    """
    from common.config import load_config, parse_config
    from experiments.runs.experiment_files import find_experiment
    from experiments.runs.run import run_experiment

    if data is not None and not isinstance(data, str | Path):
        raise UsageError(f"run: data is a folder, not {type(data).__name__}; for DataFrames use federate")
    overrides = [*([f"data.path={json.dumps(str(data))}"] if data is not None else []), *settings]
    if isinstance(config, Mapping):
        parsed = parse_config(dict(config), overrides)
    else:
        parsed = load_config(find_experiment(Path(config)), overrides)
    with NotebookProgress(progress) as watcher:
        return Run(run_experiment(parsed, Path(runs), watcher))


def load_run(folder: str | Path) -> Run:
    """Return a run that is there already.

    Raises:
        DataError: the folder holds no report.
    """
    path = Path(folder)
    if not RunFolder(path).report.is_file():
        raise DataError(f"{path} holds no report: give a run's folder, such as runs/NAME-20260101-120000")
    return Run(path)


def compare(*runs: Run | str | Path, metric: str | None = None) -> pd.DataFrame:
    """Return the federated models of several runs side by side, each compared with the first.

    Args:
        runs: two runs or more, or their folders.
        metric: the metric; None: the first run's.

    Returns:
        a row a hospital and run: `value`, `low`, `high`, and the `difference` from the first run with `difference low`
        and `difference high`, its paired 95% interval where the test patients are the same.

    Raises:
        UsageError: there are not two runs, or no two have the metric.
        DataError: a folder holds no report.
    """
    from experiments.comparison.compare import compare_runs

    if len(runs) < 2:
        raise UsageError("compare: give at least two runs")
    comparison = compare_runs([item.folder if isinstance(item, Run) else Path(item) for item in runs], metric)
    rows = []
    for row in comparison.select_rows("federated"):
        for item in comparison.runs:
            figure, difference = row.figure(item.label), row.differences.get(item.label)
            change = difference.figure if difference is not None else None
            rows.append(
                {
                    "hospital": ALL_HOSPITALS if row.site == POOLED else row.site,
                    "run": item.label,
                    "metric": row.metric,
                    "value": figure.value,
                    "low": figure.low,
                    "high": figure.high,
                    "difference": change.value if change else None,
                    "difference low": change.low if change else None,
                    "difference high": change.high if change else None,
                }
            )
    return pd.DataFrame(rows)
