"""The audit has teeth: honest training passes, training that reveals more than it claims does not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from client.privacy.accounting import GaussianSteps, compute_epsilon
from client.privacy.unit_gradients import UnitGradients
from client.privacy.units import group_rows_by_unit
from client.training.batches import load_tensors
from client.training.losses import build_example_loss
from common import models, noise
from common.config import RunConfig, load_config
from common.errors import AuditError, ConfigError
from common.sections.training import ModelConfig
from experiments import simulated_site
from experiments.cli import run_progress
from experiments.cli.main import app
from experiments.privacy import audit
from experiments.privacy.audit import Audit, audit_training
from experiments.privacy.canaries import Attacker, ProbedModel, add_canaries
from experiments.runs import run as launch
from tests import tiny

MLP: dict[str, Any] = {"name": "mlp", "options": {"widths": [4], "inputs": "both", "dropout": 0.0}}


def config(**more: Any) -> RunConfig:
    held = {"model": MLP, "training__loss": "cross_entropy", "federation__choose": "last", "federation__rounds": 5,
            "privacy__epsilon": 2.0, "privacy__delta": 1e-4, "privacy__sampling": 0.2, "privacy__accountant": "rdp",
            "privacy__noise": "seeded"}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def audited(canaries: int = 1500, **more: Any) -> Audit:
    return audit_training(config(**more), tiny.cohort(1), canaries=canaries, site="north")


@pytest.mark.parametrize("level", ["patient", "record"])
def test_honest_training_passes(level: str) -> None:
    for seed in (1, 2):
        result = audited(privacy__level=level, seed=seed)
        assert result.passed
        assert result.claimed == compute_epsilon([GaussianSteps(0.2, result.sigma, 25)], 1e-4, "rdp") <= 2.0
        assert 0.5 * result.claimed < result.measured < result.claimed
        assert 0 <= result.attack < result.claimed
        assert (result.units, result.steps, result.rounds) == (6 if level == "patient" else 48, 25, 5)
        assert result.noise == pytest.approx(result.sigma, rel=0.1)
        assert 0.6 < result.weight < 1  # a bound, by the luck of the noise
        result.raise_if_failed()


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "add_noise", lambda total, deviation, source: total)


def half_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    true = noise.add_noise
    monkeypatch.setattr(noise, "add_noise", lambda total, deviation, source: true(total, deviation / 2, source))


def a_fifth_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    true = noise.add_noise
    monkeypatch.setattr(noise, "add_noise", lambda total, deviation, source: true(total, deviation / 5, source))


def examples_clipped_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    def each(self: UnitGradients, units: Any, rows: Any, limit: float) -> Any:
        return true(self, [np.asarray([row]) for unit in units for row in unit], rows, limit)

    true = UnitGradients.clipped_sum
    monkeypatch.setattr(UnitGradients, "clipped_sum", each)


def recordings_as_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "client.privacy.dp_sgd.group_rows_by_unit",
        lambda train, level: [np.flatnonzero(train.patient == i) for i in set(train.patient)],
    )


def drawn_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    true = noise.draw_units
    monkeypatch.setattr(noise, "draw_units", lambda source, units, q: true(source, units, 2 * q))


@pytest.mark.parametrize(
    "broken",
    [without_noise, half_the_noise, a_fifth_of_the_noise, examples_clipped_for_themselves, recordings_as_persons,
     drawn_too_often],
)  # fmt: skip
def test_training_that_reveals_more_than_it_claims_fails(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    result = audited()
    assert not result.passed
    assert result.bound > result.claimed
    with pytest.raises(AuditError, match="FAILED"):
        result.raise_if_failed()
    if broken in (without_noise, a_fifth_of_the_noise):
        assert result.attack > result.claimed  # the guesses alone prove it


def test_the_guesses_prove_it_where_noise_is_not_what_it_seems(monkeypatch: pytest.MonkeyPatch) -> None:
    # the noise of all coordinates is one number: its deviation is as charged for, and yet it can be taken away
    def common(total: Any, deviation: float, source: noise.RandomSource) -> Any:
        return total + noise.draw_normal(source, 1) * deviation

    def without_what_is_common(self: Attacker) -> None:
        gradient = self._probe.weight.grad
        assert gradient is not None
        clean = gradient - gradient.median(dim=1, keepdim=True).values
        remaining, self._probe.weight.grad = self._probe.weight.grad, clean
        look(self)
        self._probe.weight.grad = remaining

    look = Attacker.observe
    monkeypatch.setattr(noise, "add_noise", common)
    monkeypatch.setattr(Attacker, "observe", without_what_is_common)
    result = audited()
    assert result.attack > result.claimed


def test_patients_are_trained_on_as_without_canaries() -> None:
    train = tiny.cohort(1)
    included = np.asarray([True, False, True, True])
    both = add_canaries(train, included, "patient")
    assert both.people() == train.people() + 3
    units = group_rows_by_unit(both, "patient")
    ids = [set(both.features[unit, -1].tolist()) for unit in units]
    assert sorted(map(tuple, ids))[-3:] == [(1.0,), (3.0,), (4.0,)]
    assert [len(unit) for unit, name in zip(units, ids, strict=True) if name != {0.0}] == [4, 4, 4]
    inner = models.build_model(train.task, ModelConfig(**MLP), seed=1)
    plain = copy.deepcopy(inner)
    model = ProbedModel(inner, 4, 3, 1000.0)
    real = [unit for unit, name in zip(units, ids, strict=True) if name == {0.0}]
    cut, features, y = load_tensors(both, torch.device("cpu"))
    result = UnitGradients(model, build_example_loss(train.task)).each(
        real, lambda rows: (cut(rows), features[rows], y[rows])
    )
    cut_, features_, y_ = load_tensors(train, torch.device("cpu"))
    expected = UnitGradients(plain, build_example_loss(train.task)).each(
        group_rows_by_unit(train, "patient"), lambda rows: (cut_(rows), features_[rows], y_[rows])
    )
    torch.testing.assert_close(result[:, : expected.shape[1]], expected)
    assert not result[:, expected.shape[1] :].any()
    canary = [unit for unit, name in zip(units, ids, strict=True) if name == {3.0}]
    moved = UnitGradients(model, build_example_loss(train.task)).each(
        canary, lambda rows: (cut(rows), features[rows], y[rows])
    )[0]
    assert not moved[: expected.shape[1]].any()
    weight = moved[expected.shape[1] :].view(3, 4)
    torch.testing.assert_close(weight[:, 2], torch.tensor([-2000.0, 1000.0, 1000.0]) / 3)
    assert not weight[:, [0, 1, 3]].any()


@pytest.mark.parametrize("more", [{"training__freeze": ["body.0.*"], "federation__start": "x"}, {}])
@pytest.mark.parametrize("name", ["cnn", "mlp", "logreg"])
def test_models_and_frozen_layers(name: str, more: dict[str, Any]) -> None:
    if more and name != "mlp":
        more = {"training__freeze": ["*.bias" if name == "logreg" else "stem.*"], "federation__start": "x"}
    kind = {"model": {"name": name, "options": {"widths": [4]} if name != "logreg" else {}}}
    names = [key for key, _ in models.build_model(tiny.TASK, ModelConfig(**kind["model"]), 0).named_parameters()]
    if more and name == "mlp":
        more["training__freeze"] = [names[0]]
    result = audited(60, **kind, **more, federation__rounds=1)
    assert result.steps == 5


@pytest.mark.parametrize(
    ("more", "canaries", "says"),
    [({"privacy__epsilon": None}, 100, "set privacy.epsilon"), ({}, 49, "at least 50 canaries")],
)
def test_what_cannot_be_audited_is_refused(more: dict[str, Any], canaries: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        audited(canaries, **more)


YAML = """
name: small
data: {options: {hospitals: 2, patients: 5, minutes: 0.5}}
sites: {validation: 0}
training: {loss: cross_entropy, device: cpu}
model: {options: {widths: [4], kernel: 3, hidden: 4}}
federation: {rounds: 2, choose: last}
privacy: {epsilon: 4.0, delta: 0.001, sampling: 0.5, accountant: rdp, noise: seeded}
"""


def command(tmp_path: Path, *more: str) -> Any:
    path = tmp_path / "small.yaml"
    path.write_text(YAML)
    return CliRunner().invoke(app, ["privacy", "audit", str(path), "--canaries", "60", "--runs", str(tmp_path), *more])


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command(tmp_path)
    assert done.exit_code == 0, done.output
    assert "privacy audit passed" in done.stdout
    assert "SYNTHETIC patients; NOT PRIVATE: seeded noise" in done.stdout
    [folder] = tmp_path.glob("small-audit-*")
    held = json.loads((folder / "audit.json").read_text())
    assert held["passed"]
    assert held["bound"] <= held["claimed"] <= 4.0
    assert (folder / "config.yaml").is_file()
    without_noise(monkeypatch)
    failed = command(tmp_path, "--quiet", "--site", held["site"])
    assert isinstance(failed.exception, AuditError)
    assert failed.exception.exit_code == 1
    assert failed.stdout == ""
    wrong = command(tmp_path, "--site", "nowhere")
    assert isinstance(wrong.exception, ConfigError)


def test_a_verdict_names_both_bounds() -> None:
    result = audited(60, federation__rounds=1)
    assert f"{result.claimed:.3f}" in result.verdict()
    assert "above any that can be measured" in replace(result, measured=audit.UNBOUNDED_EPSILON).verdict()


@pytest.mark.slow
def test_a_runs_own_report_shows_its_audit(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(YAML + "baselines: {local: false, pooled: false}\nevaluation: {bootstrap: 0}\n")
    run = launch.run_experiment(load_config(path), tmp_path, run_progress.QuietPrinter())
    assert "<h3>Audit</h3>" not in (run / "report.html").read_text()
    done = CliRunner().invoke(app, ["privacy", "audit", str(run), "--canaries", "60", "--quiet"])
    assert done.exit_code == 0, done.output
    assert "<h3>Audit</h3>" in (run / "report.html").read_text()
    assert "FAILED" not in (run / "report.html").read_text()
    with pytest.raises(ConfigError, match="is a folder: name a YAML file in it"):
        simulated_site.load_target(tmp_path, [])


def test_the_level_of_hospitals_has_no_canaries() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.level=patient or record"):
        audited(privacy__level="hospital", federation__weights="equal", privacy__weight_total=2.0)
