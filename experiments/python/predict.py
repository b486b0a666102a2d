"""Predictions of a run's model for DataFrames and arrays."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.errors import DataError
from experiments.scoring.score import ScoringModel, score_rows
from sites.unlabelled_rows import ScorableRows, unlabelled_cohort

FILE = "rows.parquet"
Array = npt.NDArray[np.floating[Any]]


def predict_frame(model: ScoringModel, inputs: pd.DataFrame | Array | tuple[Array, Array]) -> pd.DataFrame:
    """Return the probability of each class and the predicted class for each example; see `Run.predict`."""
    if isinstance(inputs, pd.DataFrame):
        if set(model.task.features) <= set(inputs.columns) and not model.task.channels:
            columns = [_read_numbers(inputs[name], f"the column {name}") for name in model.task.features]
            features = np.stack(columns, axis=1) if columns else np.zeros((len(inputs), 0), np.float32)
            result = _predict_arrays(model, np.zeros((len(inputs), 0, 0)), features)
        elif model.config.data.dataset == "table":
            result = _predict_table(model, inputs)
        else:
            missing = [name for name in model.task.features if name not in inputs.columns]
            what = f"no column {missing[0]}" if missing else "the model takes a signal: give arrays"
            raise DataError(f"predict: {what}; its inputs are {', '.join(model.task.features[:20]) or 'a signal'}")
        return result.set_axis(inputs.index)
    first, second = inputs if isinstance(inputs, tuple) else (inputs, None)
    x = _read_numbers(first, "the array")
    if second is not None or model.task.channels:
        n = len(x)
        features = np.zeros((n, 0), np.float32) if second is None else _read_numbers(second, "the array")
        return _predict_arrays(model, x, features)
    return _predict_arrays(model, np.zeros((len(x), 0, 0)), x)


def _read_numbers(values: Any, what: str) -> npt.NDArray[np.float32]:
    """Return values in single precision.

    Raises:
        DataError: one is no number; the value, which may be a patient's, is not quoted.
    """
    try:
        if isinstance(values, pd.Series):
            return values.to_numpy(np.float32, na_value=np.nan)
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise DataError(
            f"predict: {what} holds something that is no number: give the model's inputs as numbers, or a DataFrame "
            "with the columns of the run's table"
        ) from None


def _predict_arrays(model: ScoringModel, x: Array, features: Array) -> pd.DataFrame:
    task = model.task
    n = len(features)
    for what, array, shape in (
        ("signal", x, (n, task.channels, task.samples)),
        ("features", features, (n, len(task.features))),
    ):
        if array.shape != shape:
            raise DataError(f"predict: the {what} must have the shape {shape}, not {array.shape}")
    if not task.missing and not (np.isfinite(features).all() and np.isfinite(x).all()):
        raise DataError("predict: an input is not a finite number, and this model has no missing inputs")
    names = tuple(map(str, range(n)))
    cohort = unlabelled_cohort(
        task, np.asarray(x, np.float32), np.asarray(features, np.float32), names, model.synthetic, np.arange(n)
    )
    return _frame(model, ScorableRows(cohort, {"record": np.asarray(names, object), "at": np.arange(n)}), n)


def _predict_table(model: ScoringModel, frame: pd.DataFrame) -> pd.DataFrame:
    """Return predictions for rows with the columns of the run's description."""
    description = model.config.data.options
    own = frame.copy()
    patient = description.get("patient")
    if patient and patient not in own.columns:
        own[patient] = np.arange(len(own))
    with tempfile.TemporaryDirectory(prefix="wardround-") as scratch:
        folder = Path(scratch)
        own.to_parquet(folder / FILE, index=False)
        source = model.source(folder)
        parts = []
        try:
            for rows in source.module.unlabelled_rows(source):
                part = _frame(model, rows, len(rows.cohort.y), positions=False)
                parts.append(part.set_axis(rows.columns["row"] - 1))
        except DataError as error:  # the file is this function's own: what is wrong is wrong in the DataFrame
            raise DataError(str(error).replace(f"{folder / FILE}: ", "predict: ")) from None
    result = pd.concat(parts).reindex(range(len(frame)))
    result["predicted"] = result["predicted"].fillna("")
    return result


def _frame(model: ScoringModel, rows: ScorableRows, count: int, *, positions: bool = True) -> pd.DataFrame:
    """Return the scores of some rows; those that cannot be scored are NaN and ""."""
    at = np.arange(count)
    rows = ScorableRows(rows.cohort, dict(rows.columns) | {"at": at})
    scored = score_rows(model, rows)
    probability = np.full((count, len(model.task.classes)), np.nan)
    predicted = np.full(count, "", dtype=object)
    scored_rows = scored.rows.columns["at"]
    probability[scored_rows], predicted[scored_rows] = scored.probability, scored.predicted
    return pd.DataFrame(probability, columns=list(model.task.classes)).assign(predicted=predicted)
