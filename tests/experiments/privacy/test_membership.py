"""Membership: the scores against what theory gives, the crafted models, and the game at a SYNTHETIC hospital."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from client.policy import SitePolicy
from common import models
from common.config import RunConfig, load_config
from common.errors import AuditError, ConfigError
from experiments.cli.main import app
from experiments.privacy.membership import (
    FIGURES,
    TOGETHER,
    Games,
    attack_membership,
    raise_if_above,
    render_membership,
    score_games,
)
from experiments.privacy.membership_pool import (
    HISTOGRAM,
    SUMS,
    TEST,
    UPDATE,
    VALIDATION,
    Pool,
    build_first_weights,
    build_pool,
)
from experiments.privacy.membership_scores import (
    MembershipResult,
    compute_ratios,
    measure_auroc,
    measure_auroc_within,
    mix_sides,
    select_cuts,
)
from experiments.privacy.membership_targeted import craft_model, crafted_config, read_rows
from sites.datasets.heart_disease import simulate

CONFIG = Path(__file__).parents[3] / "experiments" / "heart_disease.yaml"
SETTINGS = ["data.options={}", "sites.split=patient", "federation.strategy={name: fedavg}", "federation.rounds=3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool") / "heart-disease"
    simulate.generate(folder, hospitals=1, patients=240, seed=3)
    return folder


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return load_config(CONFIG, SETTINGS)


@pytest.fixture(scope="module")
def pool(config: RunConfig, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return build_pool(config, data, SitePolicy(), tmp_path_factory.mktemp("state"))


def test_sums_give_members_away_as_theory_says() -> None:
    """A sum over a random part of people: the score's distance of means is the Mahalanobis length of a person's row."""
    rng = np.random.default_rng(0)
    people, numbers, games, share = 150, 5, 300, 0.25
    rows = rng.normal(size=(people, numbers))
    inside = rng.random((games, people)) < share
    answers = inside @ rows
    ratios = compute_ratios(answers, rows, inside)
    value, low, high = measure_auroc(ratios, inside, ~inside, 20)
    assert 0.5 < low < value < high
    inverse = np.linalg.inv(share * (1 - share) * rows.T @ rows)
    lengths = np.sqrt(np.einsum("pi,ij,pj->p", rows, inverse, rows))
    lengths = np.resize(lengths, 50_000)
    members, others = norm.rvs(size=(2, 50_000), random_state=1) * lengths
    scores = np.concatenate([members + lengths**2 / 2, others - lengths**2 / 2])
    assert value == pytest.approx(roc_auc_score(np.repeat([1, 0], 50_000), scores), abs=0.02)


def test_answers_without_the_people_give_nothing_away() -> None:
    rng = np.random.default_rng(1)
    inside = rng.random((100, 100)) < 0.5
    ratios = compute_ratios(rng.normal(size=(100, 4)), rng.normal(size=(100, 4)), inside)
    value, low, high = measure_auroc(ratios, inside, ~inside, 20)
    assert low < 0.5 < high or value == pytest.approx(0.5, abs=0.02)


def test_steps_of_unknown_length_are_fitted() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(100, 4))
    inside = rng.random((100, 100)) < 0.5
    answers = inside @ rows
    known = compute_ratios(answers, rows, inside)
    fitted = compute_ratios(answers, 1000 * rows, inside, rescale=True)
    assert measure_auroc(fitted, inside, ~inside, 20)[0] == pytest.approx(
        measure_auroc(known, inside, ~inside, 20)[0], abs=0.01
    )


def test_the_auroc_is_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(3)
    scores, inside = rng.integers(0, 20, size=(30, 40)).astype(float), rng.random((30, 40)) < 0.3
    others = ~inside & (rng.random((30, 40)) < 0.8)
    chosen = inside | others
    value, low, high = measure_auroc(scores, inside, others, 50)
    assert value == pytest.approx(roc_auc_score(inside[chosen], scores[chosen]))
    assert low < value < high


def test_within_one_hospital_its_number_of_patients_says_nothing() -> None:
    """Scores that rise with the number of members, equal for everyone, are informative over games alone."""
    rng = np.random.default_rng(4)
    inside = rng.random((200, 50)) < rng.uniform(0.1, 0.9, size=(200, 1))
    scores = np.repeat(inside.sum(1)[:, None].astype(float), 50, axis=1)
    assert measure_auroc(scores, inside, ~inside, 20)[0] > 0.65
    assert measure_auroc_within(scores, inside, ~inside, 20) == (0.5, 0.5, 0.5)
    assert measure_auroc_within(inside.astype(float), inside, ~inside, 20)[0] == 1.0


def test_games_without_an_answer_count_for_the_others_alone(pool: Pool) -> None:
    rng = np.random.default_rng(5)
    side = np.where(rng.random((40, len(pool.people))) < 0.4, 3, 0)
    answers = (side == 3) @ pool.steps[TEST]
    answers[::4] = np.nan
    (test, _, together) = score_games(pool, Games(side, {TEST: answers}))
    assert (test.answers, test.games, together.games) == (TEST, 30, 40)
    (whole, *_) = score_games(pool, Games(np.delete(side, np.s_[::4], 0), {TEST: np.delete(answers, np.s_[::4], 0)}))
    assert test.auroc == pytest.approx(whole.auroc, abs=0.005)


def test_ratios_are_mixed_over_the_sides() -> None:
    side = np.array([[1, 3], [3, 0], [3, 3], [0, 3]])  # a person trains once in three times, another is always tested
    ratios = {3: np.full((4, 2), np.log(4.0))}
    assert np.exp(mix_sides(ratios, side)[0]).tolist() == pytest.approx([1 / 3 + 2 / 3 * 4, 4.0])


def test_cuts_keep_the_counts_and_leave_out_what_never_varies() -> None:
    answers = np.random.default_rng(0).normal(size=(20, 5 + 100))
    answers[:, 30:] = 1.0
    picked = select_cuts(answers, 5)
    assert picked[:5].tolist() == [0, 1, 2, 3, 4]
    assert picked.max() < 30
    assert len(picked) > 20


def test_what_people_add_sums_up_to_the_exact_answers(pool: Pool) -> None:
    train = pool.site.train
    here = np.isin(pool.people, train.people_names)
    counts = pool.steps[SUMS][here].sum(0)[: len(train.task.features)]
    assert counts.tolist() == [len(train.y)] * len(train.task.features)
    tested = np.isin(pool.people, pool.site.test.people_names)
    figures = pool.steps[TEST][tested].sum(0)
    assert figures[0] == tested.sum()
    assert figures[1:3].tolist() == np.bincount(pool.site.test.y).tolist()
    assert figures[3:].sum() == tested.sum()
    assert pool.steps[TEST + HISTOGRAM].shape[1] == figures.size + 2 * 2 * 62


def test_a_gradient_is_that_of_the_persons_own_loss(pool: Pool) -> None:
    """At weights of zero it is (1/2 - y) x for the event, and the mean is subtracted."""
    from client import input_scaling
    from common.scaling import Scaling

    part = input_scaling.apply_scaling(pool.site.train, Scaling.from_bytes(pool.scaling))
    first, second = (pool.people.index(part.persons[owner]) for owner in part.patient[:2])
    gap = pool.steps[UPDATE][first] - pool.steps[UPDATE][second]
    width = part.features.shape[1]
    by_hand = [-(0.5 - y) * x for x, y in zip(part.features[:2].astype(float), part.y[:2], strict=True)]
    np.testing.assert_allclose(gap[width : 2 * width], by_hand[0] - by_hand[1], atol=1e-5)


def test_a_crafted_model_calls_the_event_for_those_near_the_target(pool: Pool) -> None:
    config = crafted_config(pool.config)
    rows, first = read_rows(pool), build_first_weights(pool.site.task, config)
    rng = np.random.default_rng(4)
    for target in (0, 7, 100):
        crafted = craft_model(rows, target, "test", 0.5, first, rng)
        network = models.build_model(pool.site.task, config.model, 0)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in crafted.weights.items()})
        with torch.no_grad():
            logits = network(torch.zeros(len(pool.people), 0, 0), torch.from_numpy(rows.features.astype(np.float32)))
        called = (logits[:, 1] > logits[:, 0]).numpy()
        assert called[target]
        others = (rows.truth == rows.truth[target]) & (np.arange(len(pool.people)) != target)
        others &= (rows.side == 2) | (not rows.published)
        often = 0.5 if rows.published else 0.125
        assert called[others].sum() * often == pytest.approx(crafted.expected, abs=often)
        assert 3 < crafted.expected < 20


@pytest.mark.slow
def test_the_gate_hides_members_that_exact_counts_give_away(config: RunConfig, data: Path) -> None:
    exact = SitePolicy(
        min_cell_patients=1,
        round_counts_to=1,
        count_noise=0.0,
        min_unit_patients=0,
        update_noise=0.0,
        record_noise=0.0,
        replaced_values=0.0,
    )
    found = {}
    for name, policy in (("exact", exact), ("default", SitePolicy())):
        found[name] = {item.answers: item for item in attack_membership(config, data, policy, 24, 0.5, crafted=4)}
    for kind in (SUMS, UPDATE, VALIDATION, TEST, TEST + HISTOGRAM, FIGURES, TOGETHER):
        assert kind in found["default"]
    exact_side, side = (found[name][TEST + HISTOGRAM].side_auroc for name in ("exact", "default"))
    assert exact_side is not None
    assert side is not None
    assert exact_side[1] > 0.6
    assert side[0] < exact_side[0] - 0.05
    before, now = (found[name][FIGURES].auroc for name in ("exact", "default"))
    assert before is not None
    assert now is not None
    assert now[0] < before[0] - 0.01
    raise_if_above([found["default"][kind] for kind in (VALIDATION, TEST)])
    assert "4 crafted models, test" in found["default"]


def test_a_hospital_that_answers_nothing_gives_nothing_away(config: RunConfig, data: Path) -> None:
    (found,) = attack_membership(config, data, SitePolicy(min_training_patients=1000), 8)
    assert found.refused == "policy: the answer would rest on too few people"
    assert "too few people" in render_membership([found])
    raise_if_above([found])
    with pytest.raises(ConfigError, match="at least 8 games"):
        attack_membership(config, data, SitePolicy(), 7)
    private = config.model_copy(update={"privacy": config.privacy.model_copy(update={"epsilon": 1.0})})
    with pytest.raises(ConfigError, match="measured without privacy"):
        attack_membership(private, data, SitePolicy(), 8)


def test_figures_that_tell_too_much_fail_the_audit() -> None:
    item = MembershipResult(TEST, (0.7, 0.6, 0.8), None, None, 100, 20.0, 50)
    with pytest.raises(AuditError, match=r"test figures separate members from others: AUROC 0\.700"):
        raise_if_above([item])
    raise_if_above([replace(item, auroc=(0.7, 0.5, 0.8)), replace(item, answers=UPDATE)])


def gate(*more: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, ["privacy", "gate", str(CONFIG), *more])


@pytest.mark.slow
def test_the_command(data: Path) -> None:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    result = gate("--data", str(data), *settings, "--games", "3")
    assert isinstance(result.exception, ConfigError)
    policy = data.parent / "policy.yaml"
    policy.write_text("min_training_patients: 1000\n")
    result = gate("--data", str(data), *settings, "--games", "8", "--policy", str(policy), "--json")
    assert result.exception is None
    assert json.loads(result.output)["membership"][0]["refused"]
