"""Records that a hospital changes before a model sees them: how, how often, and that nothing else is learnt from."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.gate.changed_records import change_records
from client.gate.rare_values import replace_rare_values
from client.gate.register import open_register
from client.input_scaling import apply_scaling, compute_input_moments, fit_scaling
from client.requests import handle
from client.requests import train as train_request
from client.site import load_changed_training, load_site
from client.training import training_call
from client.training.histograms import TrainingTable
from common.requests import DomainShiftRequest, GrowRequest, ScalingRequest
from common.scaling import Scaling
from common.task import Task
from common.tree_plan import plan_run
from common.trees import empty_trees
from sites.cohort import Cohort, Windows
from sites.comparison_columns import column_table
from tests import tiny
from tests.client.gate.people_table import SECRET, TASK, table
from tests.client.gate.stranger import PLAIN, ask_scaling, make_config, make_hospital, seed_weights, train_first


def test_a_number_has_noise_of_the_asked_size_and_a_code_is_replaced_as_often_as_asked() -> None:
    whole = table(40_000)
    changed = change_records(whole, SECRET, 0.5, 0.15)
    noise = changed.features[:, 0] - whole.features[:, 0]
    assert noise.std() == pytest.approx(1.0, abs=0.02)  # half the deviation of 2, in steps of the root of 2
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    assert abs(np.corrcoef(noise, whole.features[:, 0])[0, 1]) < 0.02
    assert np.mean(noise**4) == pytest.approx(3.0, abs=0.2)  # as of a normal number
    for true, seen, values in ((whole.y, changed.y, 2), (whole.features[:, 1], changed.features[:, 1], 3)):
        assert np.mean(true != seen) == pytest.approx(0.15, abs=0.007)
        for value in range(values):
            others = [np.mean(seen[true == value] == other) for other in range(values) if other != value]
            assert others == pytest.approx([0.15 / (values - 1)] * (values - 1), abs=0.01)
    flips, codes = whole.y != changed.y, whole.features[:, 1] != changed.features[:, 1]
    assert np.mean(flips & codes) == pytest.approx(0.15**2, abs=0.004)  # drawn separately


def test_a_record_is_changed_alike_whoever_else_trains_and_in_whatever_order() -> None:
    whole = table(200)
    changed = change_records(whole, SECRET, 0.5, 0.15)
    order = np.random.default_rng(1).permutation(200)
    mixed = change_records(whole.take(order), SECRET, 0.5, 0.15)
    assert np.array_equal(mixed.features, changed.features[order])
    assert np.array_equal(mixed.y, changed.y[order])
    fewer = change_records(whole.take(np.arange(199)), SECRET, 0.5, 0.15)
    assert np.array_equal(fewer.features, changed.features[:199])
    assert np.array_equal(fewer.y, changed.y[:199])


def test_another_secret_value_or_size_of_the_noise_is_another_draw() -> None:
    whole = table(200)
    changed = change_records(whole, SECRET, 0.5, 0.15)
    assert not np.isclose(change_records(whole, bytes(32), 0.5, 0.15).features[:, 0], changed.features[:, 0]).any()
    larger = change_records(whole, SECRET, 1.0, 0.15).features[:, 0]
    # were it the same draw in two sizes, both would lie on one line through the value
    first, second = changed.features[:, 0] - whole.features[:, 0], larger - whole.features[:, 0]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2
    features = whole.features.copy()
    features[0, 0] += 0.001
    altered = change_records(replace(whole, features=features), SECRET, 0.5, 0.15).features
    assert abs((altered - changed.features)[0, 0] - 0.001) > 0.01
    assert np.array_equal(altered[1:], changed.features[1:])


def test_rows_of_a_patient_share_one_noise_and_have_one_of_their_own() -> None:
    whole = table(3000, rows=8)
    changed = change_records(whole, SECRET, 0.5, 0.15)
    noise = (changed.features[:, 0] - whole.features[:, 0]).reshape(3000, 8)
    assert noise.mean(1).var() == pytest.approx(1 + 1 / 8, abs=0.08)
    assert noise.var(axis=1, ddof=1).mean() == pytest.approx(1.0, abs=0.03)
    flips = (changed.y != whole.y).reshape(3000, 8)
    assert np.array_equal(flips.any(1), flips.all(1))
    assert flips.all(1).mean() == pytest.approx(0.15, abs=0.02)


def test_a_missing_number_is_not_told_from_a_measured_one() -> None:
    task = replace(TASK, missing=True)
    whole = table(400, task=task)
    whole.features[:100, 0] = np.nan
    changed = change_records(whole, SECRET, 0.5, 0.15).features[:, 0]
    assert np.isfinite(changed).all()
    assert len(np.unique(changed[:100])) == 100
    assert changed[:100].mean() == pytest.approx(np.nanmean(whole.features[:, 0]), abs=0.4)


def test_trees_see_which_numbers_are_missing() -> None:
    whole = table(400, task=replace(TASK, missing=True))
    whole.features[:100, 0] = np.nan
    filled, changed = (change_records(whole, SECRET, 0.5, 0.15, fill=fill).features[:, 0] for fill in (True, False))
    assert np.isnan(changed[:100]).all()
    assert np.array_equal(changed[100:], filled[100:])


def test_an_hour_is_changed_alike_in_all_windows_that_hold_it() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 2)).astype(np.float32)
    end = np.array([3, 4, 5, 20, 21, 45], np.int64)
    first = np.array([0, 0, 0, 15, 15, 40], np.int64)
    task = Task("hours", "binary", ("no", "yes"), ("no", "yes"), 2, 4, 1.0, (), ("a", "b"))
    names = ("one", "two", "three")
    whole = Cohort(
        task, Windows(rows, end, first, 4), np.zeros((6, 0), np.float32), np.array([0, 1, 0, 0, 1, 1]),
        np.array([0, 0, 0, 1, 1, 2]), names, names, np.zeros(6, np.int8),
    )  # fmt: skip
    changed = change_records(whole, SECRET, 0.5, 0.0)
    assert isinstance(changed.x, Windows)
    used = [*range(6), *range(15, 22), *range(40, 46)]
    touched = np.flatnonzero((changed.x.rows != rows).all(1))
    assert touched.tolist() == used
    assert np.array_equal(changed.x.rows[6:15], rows[6:15])


def test_signals_have_noise_and_reconstructions_keep_their_labels() -> None:
    whole = tiny.cohort(0, people=30)
    changed = change_records(whole, SECRET, 0.5, 0.15)
    assert isinstance(changed.x, np.ndarray)
    assert isinstance(whole.x, np.ndarray)
    ratio = (changed.x - whole.x).std() / whole.x.std()
    assert ratio == pytest.approx(0.5 * np.sqrt(2), rel=0.25)  # of the person and of the beat, in steps


def test_nothing_is_changed_where_the_policy_asks_for_nothing() -> None:
    whole = table(30)
    assert change_records(whole, SECRET, 0.0, 0.0) is whole


def learnt_from(context: Any, config: Any, scaling: Scaling, monkeypatch: pytest.MonkeyPatch) -> Cohort:
    """Return the examples that an update was trained on."""
    cohorts = []
    true = training_call.train_model

    def watch(model: Any, train: Cohort, *values: Any, **options: Any) -> Any:
        cohorts.append(train)
        assert options["replaced"] == context.policy.replaced_values
        return true(model, train, *values, **options)

    monkeypatch.setattr(training_call, "train_model", watch)
    train_first(context, config, scaling)
    return cohorts[0]


def test_every_request_learns_from_the_same_changed_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scalings, two runs: after undoing the scaling, the same numbers, and not the patients' own."""
    context, config = make_hospital(tmp_path), make_config(**PLAIN, data__scaling="standard")
    scaling = ask_scaling(context)
    site = load_site(context, config)
    other = Scaling(scaling.centre + 0.25 * scaling.spread, scaling.spread * 1.5)
    seen = []
    for each in (scaling, other):
        cohort = learnt_from(context, config, each, monkeypatch)
        seen.append(cohort.features * each.spread[: cohort.features.shape[1]] + each.centre[: cohort.features.shape[1]])
        assert 0 < np.mean(cohort.y != site.train.y) < 0.4
    assert seen[0] == pytest.approx(seen[1], rel=1e-3, abs=1e-3)
    age = site.task.features.index("age")
    assert np.abs(seen[0][:, age] - site.train.features[:, age]).mean() > 1.0
    sex = site.task.features.index("sex")
    assert 0 < np.mean(np.abs(seen[0][:, sex] - site.train.features[:, sex]) > 0.5) < 0.4


def test_an_update_is_the_same_function_of_changed_records_as_a_simulation_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the noise on weights off, one step's update is the mean gradient over the changed records."""
    context = make_hospital(tmp_path, update_noise=0.0, min_unit_patients=0)
    config = make_config(**PLAIN, data__scaling="standard")
    scaling = ask_scaling(context)
    cohort = learnt_from(context, config, scaling, monkeypatch)
    update = train_first(context, config, scaling)
    start = seed_weights(config, load_site(context, config))
    logits = cohort.features @ start["out.weight"].T + start["out.bias"]
    p = np.exp(logits[:, 1]) / np.exp(logits).sum(1)
    share = context.policy.replaced_values
    seen = share + (1 - 2 * share) * p  # probability that the outcome is seen as 1
    slope = (1 - 2 * share) * p * (1 - p) * np.where(cohort.y == 1, -1 / seen, 1 / (1 - seen))
    expected = -(slope @ cohort.features) / len(cohort.y)
    assert update["out.weight"][1] - start["out.weight"][1] == pytest.approx(expected, abs=2e-4)


def test_trees_grow_on_the_same_changed_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_hospital(tmp_path)
    config = make_config(model__name="boosting", data__scaling="bins")
    cohorts, true = [], TrainingTable.from_cohort

    def watch(cohort: Cohort, *values: Any) -> TrainingTable:
        cohorts.append(cohort)
        assert values[-1] == context.policy.replaced_values
        return true(cohort, *values)

    monkeypatch.setattr(TrainingTable, "from_cohort", watch)
    site = load_site(context, config)
    plan = plan_run(config, site.task)
    scaling = fit_scaling([site.train], "bins")
    assert scaling is not None
    handle(
        context,
        GrowRequest(config, 1, weights=empty_trees(plan), scaling=scaling.to_bytes(), run_id=secrets.token_hex(16)),
    )
    records = change_records(
        replace_rare_values(site.train, 5), open_register(context).read_secret(), 0.5, 0.15, fill=False
    )
    assert np.array_equal(cohorts[0].y, records.y)
    assert not np.array_equal(cohorts[0].y, site.train.y)
    assert np.array_equal(cohorts[0].features, apply_scaling(records, scaling).features, equal_nan=True)


def test_sums_of_inputs_are_those_of_changed_records(tmp_path: Path) -> None:
    context, config = (
        make_hospital(tmp_path, min_cell_patients=1, min_unit_patients=0),
        make_config(data__scaling="standard"),
    )
    site = load_site(context, config)
    records = change_records(site.train, open_register(context).read_secret(), 0.5, 0.15, fill=False).features
    sums = handle(context, ScalingRequest(config)).sums
    assert sums["total"] == pytest.approx(np.nansum(records, axis=0, dtype=np.float64), rel=1e-6)
    assert sums["square"] == pytest.approx(np.nansum(records.astype(np.float64) ** 2, axis=0), rel=1e-6)
    assert sums["missing"] == pytest.approx(np.isnan(site.train.features).sum(0))
    age = site.task.features.index("age")
    assert sums["total"][age] != pytest.approx(float(site.train.features[:, age].sum()), abs=1.0)


def test_who_is_normal_enough_to_train_an_autoencoder_is_decided_on_changed_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_hospital(tmp_path, patients=200)
    labelled = load_site(context, make_config(data__scaling="standard")).train
    config = make_config(**PLAIN, data__scaling="standard", model={"name": "tabular_autoencoder"})
    scaling = ask_scaling(context)
    cohort = learnt_from(context, config, scaling, monkeypatch)
    records = change_records(
        replace_rare_values(labelled, 5), open_register(context).read_secret(), 0.5, 0.15, fill=False
    )
    assert np.array_equal(cohort.features, apply_scaling(records, scaling).features[records.y == 0], equal_nan=True)
    trained = set(cohort.people_names)
    ill = {labelled.persons[i] for i in labelled.patient[labelled.y == 1]}
    assert 0 < len(trained & ill) < 0.4 * len(ill)
    assert len(trained) < labelled.people()


@pytest.mark.parametrize(
    ("policy", "changes"), [({}, True), ({"private_only": True}, False), ({"max_epsilon": 8}, False)]
)
def test_a_private_run_learns_from_replaced_outcomes_unless_the_hospital_relies_on_epsilon(
    policy: dict[str, Any], changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epsilon of 8, which the default policy lets a coordinator choose, hides an outcome less than that."""
    context = make_hospital(tmp_path, patients=400, **policy)
    config = make_config(
        data__scaling="standard",
        privacy={"level": "patient", "epsilon": 4},
        federation={"rounds": 1, "choose": "last"},
        training__loss="cross_entropy",
    )
    cohorts, true = [], train_request.train_privately

    def watch(model: Any, train: Cohort, *values: Any, **options: Any) -> Any:
        cohorts.append(train)
        assert options["replaced"] == (0.15 if changes else 0.0)
        return true(model, train, *values, **options)

    monkeypatch.setattr(train_request, "train_privately", watch)
    scaling = fit_scaling([load_site(context, config).train], "standard")
    assert scaling is not None
    train_first(context, config, scaling)
    plain = apply_scaling(load_site(context, config).train, scaling)
    assert np.array_equal(cohorts[0].features, plain.features, equal_nan=True)
    assert np.array_equal(cohorts[0].y, plain.y) != changes


def test_columns_of_a_run_that_detects_anomalies_are_compared_over_all_who_train(tmp_path: Path) -> None:
    context = make_hospital(tmp_path, patients=200, min_cell_patients=1)
    plain = make_config(data__scaling="standard")
    detecting = make_config(data__scaling="standard", model={"name": "tabular_autoencoder"})
    sums = [handle(context, DomainShiftRequest(config)).sums for config in (plain, detecting)]
    assert sums[0]["count"].max() == load_site(context, plain).train.people()
    for name, values in sums[0].items():
        np.testing.assert_array_equal(values, sums[1][name])


def test_compared_columns_and_checks_of_scalings_rest_on_changed_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of random features showed who trains, and refusals of scalings the exact sums of true records."""
    context = make_hospital(tmp_path, patients=200)
    config = make_config(**PLAIN, data__scaling="standard")
    site = load_site(context, config)
    records = change_records(
        replace_rare_values(site.train, 5), open_register(context).read_secret(), 0.5, 0.15, fill=False
    )
    used, compared = [], []
    monkeypatch.setattr(
        "client.gate.plausible_scaling.compute_input_moments",
        lambda train, floor=1: used.append(train) or compute_input_moments(train, floor),  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr(
        "client.requests.domain_shift.column_table",
        lambda cohort: compared.append(cohort) or column_table(cohort),  # type: ignore[func-returns-value]
    )
    train_first(context, config, ask_scaling(context))
    handle(context, DomainShiftRequest(config))
    for cohort in (*used, *compared):
        assert np.array_equal(cohort.features, records.features, equal_nan=True)
        assert np.array_equal(cohort.y, records.y)
    assert len(used) >= 2
    assert len(compared) == 1


def test_a_hospitals_own_scaling_is_that_of_its_changed_records(tmp_path: Path) -> None:
    context = make_hospital(tmp_path, patients=200)
    plain, own = (make_config(data__scaling=kind) for kind in ("none", "site"))
    age = load_site(context, own).task.features.index("age")
    assert load_changed_training(context, plain, b"").features[:, age].mean() > 30
    scaled = load_changed_training(context, own, b"").features[:, age]
    assert scaled.mean() == pytest.approx(0.0, abs=1e-3)
    assert scaled.std() == pytest.approx(1.0, abs=1e-3)  # of true records it is 1.1
