"""The classifier for scikit-learn: its own checks, and its level beside a pooled logistic regression."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import check_estimator

import wardround as wr

pytestmark = pytest.mark.slow


def draw(rows: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows of two sites whose inputs differ in level, and classes that follow three of the inputs."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 4)) * [1, 10, 0.1, 1], columns=list("abcd"))
    frame["clinic"] = np.where(rng.random(rows) < 0.3, "north", "south")
    frame.loc[frame["clinic"] == "north", "b"] += 5
    odds = 1.5 * frame["a"] - 0.1 * frame["b"] + 8 * frame["c"]
    return frame, np.where(rng.random(rows) < 1 / (1 + np.exp(-odds)), "yes", "no")


def test_it_reaches_the_level_of_pooled_logistic_regression() -> None:
    x, y = draw(600, 1)
    new, truth = draw(2000, 2)
    federated = wr.WardroundClassifier(site="clinic").fit(x, y)
    assert federated.sites_ == tuple(dict.fromkeys(x["clinic"]))
    assert list(federated.feature_names_in_) == ["a", "b", "c", "d"]
    inputs = x.drop(columns="clinic")
    level = (inputs - inputs.mean()) / inputs.std()
    pooled = LogisticRegression().fit(level, y)
    reference = pooled.score((new.drop(columns="clinic") - inputs.mean()) / inputs.std(), truth)
    assert federated.score(new, truth) > reference - 0.01
    without = federated.predict_proba(new.drop(columns="clinic"))
    np.testing.assert_array_equal(federated.predict_proba(new), without)  # the site is no input
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(federated)).predict_proba(new), without)
    again = wr.WardroundClassifier(site="clinic").fit(x, y)
    np.testing.assert_array_equal(again.predict_proba(new), without)


def test_a_frame_that_would_train_another_model_is_refused() -> None:
    x, y = draw(60, 1)
    with pytest.raises(ValueError, match="no column 'ward' of the sites; its columns are a, b, c, d, clinic"):
        wr.WardroundClassifier(site="ward").fit(x, y)
    with pytest.raises(ValueError, match="column 'sex' is not of numbers: encode it before"):
        wr.WardroundClassifier(site="clinic").fit(x.assign(sex=np.where(x["a"] > 0, "F", "M")), y)
    with pytest.warns(UserWarning, match="no column 'site': all rows count as one site's"):
        alone = wr.WardroundClassifier(rounds=2).fit(x.drop(columns="clinic"), y)
    assert alone.sites_ == ("site",)


def test_in_a_pipeline_categories_and_missing_values_are_encoded_before() -> None:
    x, y = draw(200, 1)
    x["sex"] = np.where(x["a"] > 0, "F", "M")
    x.loc[::7, "c"] = np.nan
    prepare = make_column_transformer(
        (SimpleImputer(), ["a", "b", "c", "d"]),
        (OneHotEncoder(drop="if_binary", sparse_output=False), ["sex"]),
        remainder="passthrough",  # the column of the sites
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = make_pipeline(prepare, wr.WardroundClassifier(site="clinic", rounds=20)).fit(x, y)
    assert set(model[-1].sites_) == {"north", "south"}
    assert model.score(x, y) > 0.7


def test_scikit_learns_own_checks_pass() -> None:
    results = check_estimator(wr.WardroundClassifier(rounds=30), on_fail=None, on_skip=None)
    failed = {item["check_name"]: item["exception"] for item in results if item["status"] == "failed"}
    assert failed == {}
    assert sum(item["status"] == "passed" for item in results) > 50
