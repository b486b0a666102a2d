"""Epsilon against Google's accountants, and the noise solved for a target."""

from __future__ import annotations

import math

import pytest

from client.privacy import accounting
from client.privacy.accounting import GaussianSteps, compute_epsilon, solve_noise
from common.errors import ConfigError

TABLE = [
    (q, sigma, steps, delta)
    for q, sigma, steps in (
        (0.001, 0.7, 5000), (0.001, 1.0, 20000), (0.005, 0.8, 1000), (0.005, 1.5, 10000), (0.01, 1.0, 1000),
        (0.01, 2.0, 3000), (0.02, 1.1, 400), (0.03, 3.0, 2000), (0.05, 1.0, 100), (0.05, 5.0, 1000),
        (0.1, 1.2, 60), (0.1, 4.0, 300), (0.25, 2.0, 40), (0.5, 6.0, 100), (1.0, 12.0, 20),
    )
    for delta in (1e-5, 1e-6)
]  # fmt: skip


def test_the_table_has_30_rows() -> None:
    assert len(TABLE) == len(set(TABLE)) == 30


@pytest.mark.parametrize(("q", "sigma", "steps", "delta"), TABLE)
def test_rdp_agrees_with_googles(q: float, sigma: float, steps: int, delta: float) -> None:
    accounting_ = pytest.importorskip("dp_accounting")
    from dp_accounting import rdp

    theirs = rdp.RdpAccountant(orders=list(accounting.RENYI_ORDERS))
    event = accounting_.PoissonSampledDpEvent(q, accounting_.GaussianDpEvent(sigma))
    theirs.compose(accounting_.SelfComposedDpEvent(event, steps))
    assert compute_epsilon([GaussianSteps(q, sigma, steps)], delta, "rdp") == pytest.approx(
        theirs.get_epsilon(delta), rel=0.005
    )


@pytest.mark.parametrize(
    ("q", "sigma", "steps", "delta"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row[2] > 1000 or row[3] < 1e-5)) for row in TABLE],
)
def test_prv_agrees_with_googles_pld(q: float, sigma: float, steps: int, delta: float) -> None:
    accounting_ = pytest.importorskip("dp_accounting")
    from dp_accounting import pld

    theirs = pld.PLDAccountant(value_discretization_interval=1e-4)
    event = accounting_.PoissonSampledDpEvent(q, accounting_.GaussianDpEvent(sigma))
    theirs.compose(accounting_.SelfComposedDpEvent(event, steps))
    result = compute_epsilon([GaussianSteps(q, sigma, steps)], delta, "prv")
    assert result == pytest.approx(theirs.get_epsilon(delta), rel=0.005)
    assert result <= compute_epsilon([GaussianSteps(q, sigma, steps)], delta, "rdp")


def test_epsilon_is_never_below_zero() -> None:
    assert compute_epsilon([GaussianSteps(1.0, 1e3, 1)], 1e-3, "rdp") == 0.0
    assert 0.0 <= compute_epsilon([GaussianSteps(1.0, 1e3, 1)], 1e-3, "prv") < 1e-2


def test_equal_histories_have_equal_epsilons() -> None:
    parts = [GaussianSteps(0.1, 2.0, 7), GaussianSteps(0.2, 3.0, 5), GaussianSteps(0.1, 2.0, 13)]
    for method in ("rdp", "prv"):
        together = compute_epsilon([GaussianSteps(0.1, 2.0, 20), GaussianSteps(0.2, 3.0, 5)], 1e-5, method)
        assert compute_epsilon(parts, 1e-5, method) == together
        assert together > compute_epsilon(parts[:2], 1e-5, method) > compute_epsilon(parts[:1], 1e-5, method) > 0
    assert compute_epsilon([], 1e-5, "rdp") == 0


def test_without_sampling_epsilon_agrees_with_the_analytic_mechanism() -> None:
    # Balle and Wang 2018 (arXiv:1805.06530), theorem 8: delta of a Gaussian mechanism at a given epsilon
    def normal(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    sigma, delta = 3.0, 1e-5
    result = compute_epsilon([GaussianSteps(1.0, sigma, 1)], delta, "prv")
    a, b = 1 / (2 * sigma), result * sigma
    exact = normal(a - b) - math.exp(result) * normal(-a - b)
    assert exact <= delta
    less = result * 0.995
    assert normal(a - less * sigma) - math.exp(less) * normal(-a - less * sigma) > delta


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rdp", "prv"])
@pytest.mark.parametrize("target", [0.5, 2.0, 8.0, 40.0])
def test_the_solved_noise_spends_almost_the_target(method: accounting.Accountant, target: float) -> None:
    sigma = solve_noise(target, 1e-5, 0.1, 100, method)
    assert 0.99 * target < compute_epsilon([GaussianSteps(0.1, sigma, 100)], 1e-5, method) <= target


def test_prv_needs_less_noise_than_rdp() -> None:
    assert solve_noise(2.0, 1e-5, 0.1, 100, "prv") < solve_noise(2.0, 1e-5, 0.1, 100, "rdp")


def test_an_epsilon_that_no_noise_keeps_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be kept"):
        solve_noise(1e-9, 1e-5, 0.5, 1_000_000, "rdp")


@pytest.mark.parametrize(
    "wrong",
    [GaussianSteps(0.0, 1.0, 1), GaussianSteps(1.1, 1.0, 1), GaussianSteps(0.1, 0.0, 1), GaussianSteps(0.1, 1.0, -1)],
)
def test_steps_out_of_range_are_refused(wrong: GaussianSteps) -> None:
    with pytest.raises(ValueError, match="not a sampled Gaussian mechanism"):
        compute_epsilon([wrong], 1e-5, "rdp")
    with pytest.raises(ValueError, match="delta"):
        compute_epsilon([GaussianSteps(0.1, 1.0, 1)], 0.0, "rdp")


@pytest.mark.parametrize(
    ("sums", "q", "sigma", "steps"), [(6.0, 0.05, 1.0, 120), (20.0, 0.01, 0.8, 600), (3.0, 1.0, 15.0, 50)]
)
def test_sums_and_steps_compose_as_in_googles_accountant(sums: float, q: float, sigma: float, steps: int) -> None:
    theirs = pytest.importorskip("dp_accounting")
    from dp_accounting import pld, rdp

    step = theirs.PoissonSampledDpEvent(q, theirs.GaussianDpEvent(sigma))
    both = theirs.ComposedDpEvent([theirs.GaussianDpEvent(sums), theirs.SelfComposedDpEvent(step, steps)])
    history = [GaussianSteps(1.0, sums, 1), GaussianSteps(q, sigma, steps)]
    exact = rdp.RdpAccountant(orders=list(accounting.RENYI_ORDERS)).compose(both).get_epsilon(1e-5)
    assert compute_epsilon(history, 1e-5, "rdp") == pytest.approx(exact, rel=0.005)
    tight = pld.PLDAccountant().compose(both).get_epsilon(1e-5)
    assert compute_epsilon(history, 1e-5, "prv") == pytest.approx(tight, rel=0.005)
    solved = solve_noise(exact, 1e-5, q, steps, "rdp", (GaussianSteps(1.0, sums, 1),))
    assert solved == pytest.approx(sigma, rel=0.01)


@pytest.mark.parametrize(
    "history",
    [[GaussianSteps(0.01, 0.3, 100_000)], [GaussianSteps(1.0, 0.3, 10_000)], [GaussianSteps(1e-3, 0.3, 10**9)]],
)
def test_little_noise_over_many_steps_is_bounded_without_a_grid_of_gigabytes(
    history: list[GaussianSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    from opacus.accountants import PRVAccountant

    monkeypatch.setattr(PRVAccountant, "get_epsilon", lambda *_, **__: pytest.fail("this would not fit into memory"))
    assert compute_epsilon(history, 1e-5, "prv") == compute_epsilon(history, 1e-5, "rdp") > 100


def test_the_grid_is_counted_as_it_is_made() -> None:
    from opacus.accountants import PRVAccountant
    from opacus.accountants.analysis.prv import PoissonSubsampledGaussianPRV

    history = (GaussianSteps(0.05, 1.1, 400), GaussianSteps(1.0, 4.0, 1))
    made = PRVAccountant()._get_domain(
        prvs=[PoissonSubsampledGaussianPRV(q, sigma) for q, sigma, _ in history],
        num_self_compositions=[400, 1],
        eps_error=0.01,
        delta_error=1e-8,
    )
    assert accounting.count_grid_points(history, 1e-5, 0.01) == pytest.approx(made.size, abs=4)
