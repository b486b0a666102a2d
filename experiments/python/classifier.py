"""A classifier for scikit-learn that is trained by a federation over the sites of its rows."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from experiments.python.progress import NotebookProgress

Floats = npt.NDArray[np.float64]
ONE_SITE = "site"
FILE = "rows.parquet"


class WardroundClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression, or another model of Wardround, trained over sites without joining their rows.

    The rows of each site stay a hospital of a simulation: scaling comes from merged sums, and each round averages what
    the sites trained. For research on one's own machine; real hospitals run `wardround client`.

    Args:
        site: the column of a DataFrame X with the site of each row, which is no input. An array, or a DataFrame
            without a column "site" where no other name was given, is one site's, with a warning for the DataFrame.
        model: name of a model for tables, such as "logreg" or "mlp".
        rounds: number of rounds.
        lr: learning rate of each round's steps.
        batch_size: rows a step; the default takes a whole site.
        weight_decay: weight decay of the optimizer.
        settings: further overrides of the configuration, such as ("federation.strategy.name=fedprox",).
        seed: of the initial weights and the order of rows.

    Attributes:
        classes_: the classes.
        n_features_in_: number of inputs.
        sites_: names of the sites.
    """

    def __init__(
        self,
        site: str = "site",
        model: str = "logreg",
        rounds: int = 60,
        lr: float = 1.0,
        batch_size: int = 65_536,
        weight_decay: float = 0.001,
        settings: Sequence[str] = (),
        seed: int = 1,
    ) -> None:
        self.site = site
        self.model = model
        self.rounds = rounds
        self.lr = lr
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.settings = settings
        self.seed = seed

    def fit(self, X: Any, y: Any) -> WardroundClassifier:
        """Train the federation.

        Args:
            X: `(rows, inputs)`, numbers without missing values; a DataFrame may have the column of the sites.
            y: `(rows,)`, the classes.

        Raises:
            ValueError: as every classifier of scikit-learn; or the DataFrame has no column of the given name.
            WardroundError: what went wrong in the federation, in one line.
        """
        inputs, sites = self._split_sites(X)
        if isinstance(X, pd.DataFrame):
            self._check_columns(X, inputs)
        values, labels = validate_data(self, inputs, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has {len(self.classes_)} class, a classifier needs two classes or more")
        names = np.full(len(values), ONE_SITE, dtype=object) if sites is None else sites
        self.sites_ = tuple(dict.fromkeys(names.tolist()))
        frame = pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])
        # Two patients a site: then no row is set aside for a test, which is scikit-learn's task here.
        halves = [f"{name}-{row % 2}" for row, name in enumerate(names.tolist())]
        frame = frame.assign(hospital=names, outcome=codes, patient=halves)
        self._state = _train(frame, self._configuration(values.shape[1]))
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class, `(rows, classes)`, in the order of `classes_`."""
        logits = self._logits(X)
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        result: Floats = shifted / shifted.sum(1, keepdims=True)
        return result

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the likeliest class of each row."""
        chosen = self._logits(X).argmax(1)
        result: npt.NDArray[Any] = self.classes_[chosen]
        return result

    def _logits(self, X: Any) -> Floats:
        check_is_fitted(self, "_state")
        values = validate_data(self, self._split_sites(X)[0], reset=False, dtype=np.float64)
        return _predict(self._state, np.asarray(values))

    def _split_sites(self, X: Any) -> tuple[Any, npt.NDArray[np.object_] | None]:
        """Return the inputs, and the site of each row if a column states it."""
        if isinstance(X, pd.DataFrame) and self.site in X.columns:
            return X.drop(columns=self.site), X[self.site].astype(str).to_numpy(dtype=object)
        return X, None

    def _check_columns(self, X: pd.DataFrame, inputs: pd.DataFrame) -> None:
        """Refuse a DataFrame that would train another model than the one meant, or that has inputs of no number."""
        if self.site not in X.columns:
            known = ", ".join(map(str, X.columns[:20]))
            if self.site != ONE_SITE:
                raise ValueError(f"X has no column {self.site!r} of the sites; its columns are {known}")
            if all(isinstance(name, str) for name in X.columns):  # columns without names name no site
                warnings.warn(
                    f"X has no column 'site': all rows count as one site's. Name the column: site='hospital'; "
                    f"the columns are {known}",
                    stacklevel=3,
                )
        for name in inputs.columns:
            if (pd.to_numeric(inputs[name], errors="coerce").isna() & inputs[name].notna()).any():
                raise ValueError(
                    f"X: column {name!r} is not of numbers: encode it before, as with OneHotEncoder in a pipeline "
                    "whose DataFrame keeps the column of the sites (docs/reference/python.md)"
                )

    def _configuration(self, inputs: int) -> dict[str, Any]:
        partition: dict[str, Any] = {"scheme": "natural"} if len(self.sites_) > 1 else {"scheme": "even", "count": 1}
        values = [str(code) for code in range(len(self.classes_))]
        return {
            "name": "classifier",
            "seed": self.seed,
            "data": {
                "dataset": "table",
                "scaling": "standard",
                "options": {
                    "read": {"files": [FILE], "hospital": "hospital"},
                    "patient": "patient",
                    "outcome": {"column": "outcome", "values": values, "classes": [f"class {code}" for code in values]},
                    "inputs": [{"name": f"x{i}"} for i in range(inputs)],
                },
            },
            "sites": {"split": "patient", "validation": 0.0, "test": 1e-9} | partition,
            "model": {"name": self.model},
            "training": {
                "epochs": 1, "batch_size": self.batch_size, "optimizer": "sgd", "lr": self.lr, "momentum": 0.0,
                "weight_decay": self.weight_decay, "loss": "cross_entropy", "device": "cpu",
            },
            "federation": {"rounds": self.rounds, "choose": "last"},
            "overrides": list(self.settings),
        }  # fmt: skip


def _train(frame: pd.DataFrame, config: dict[str, Any]) -> dict[str, Any]:
    """Return a trained federation's weights, scaling, task and configuration."""
    from safetensors.numpy import load_file

    from common import run_folder
    from common.config import config_to_json, parse_config
    from common.run_folder import RunFolder
    from experiments import restore
    from experiments.engines import carry_messages
    from experiments.runs.checks import check_plugins
    from experiments.runs.run import prepare_run

    overrides = config.pop("overrides")
    with tempfile.TemporaryDirectory(prefix="wardround-") as scratch, NotebookProgress(False) as watcher:
        folder = Path(scratch)
        (folder / "data").mkdir()
        frame.to_parquet(folder / "data" / FILE, index=False)
        config["data"] |= {"path": str(folder / "data"), "cache": str(folder / "cache")}
        run, source, hospitals = prepare_run(parse_config(config, overrides), watcher)
        check_plugins(run)
        own = run_folder.create_run_folder(run, folder / "runs")
        run_folder.write_run_description(run, own, {}, [])
        carry_messages(run, own, hospitals, source, watcher)
        _, task = restore.model(own)
        scaling = restore.load_scaling(own, "federated")
        weights = load_file(RunFolder(own).weights("federated"))
    return {"weights": weights, "scaling": scaling, "task": task, "config": config_to_json(run)}


def _predict(state: dict[str, Any], values: Floats) -> Floats:
    """Return logits `(rows, classes)` of raw inputs."""
    import torch

    from client import input_scaling
    from client.evaluation.predictions import build_predictor
    from common import models
    from common.config import config_from_json
    from sites.unlabelled_rows import unlabelled_cohort

    config, task = config_from_json(state["config"]), state["task"]
    model = models.build_model(task, config.model, config.seed)
    model.load_state_dict({name: torch.as_tensor(array) for name, array in state["weights"].items()})
    n = len(values)
    names = tuple(map(str, range(n)))
    cohort = unlabelled_cohort(
        task, np.zeros((n, 0, 0), np.float32), values.astype(np.float32), names, False, np.arange(n)
    )
    output = build_predictor(model.eval(), config)(input_scaling.apply_scaling(cohort, state["scaling"]))
    return np.asarray(output, dtype=np.float64)
