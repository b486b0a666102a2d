"""Histograms for the comparison of hospitals: with errors, so that no bin shows whether anybody is in it."""

from __future__ import annotations

import numpy as np

from client.requests.domain_shift import answer_cells, digest_summary
from common import distance
from tests import tiny


def test_bins_of_few_and_of_nobody_are_alike() -> None:
    z = np.concatenate([np.zeros(20), np.full(3, 1.0)])[:, None]
    cells = answer_cells(z, np.arange(23), 5, lambda cell: 0)
    bins = distance.histogram_bins(z)[:, 0]
    assert cells[0, bins[0]] == 20
    assert np.count_nonzero(cells) == 1


def test_errors_are_people_with_as_many_examples_as_others_have() -> None:
    z, person = np.zeros((60, 1)), np.repeat(np.arange(20), 3)
    own = f"0 {distance.histogram_bins(z)[0, 0]}"
    cells = answer_cells(z, person, 5, lambda cell: {own: 5, "0 1": 6}.get(cell, 0))
    assert cells[0, distance.histogram_bins(z)[0, 0]] == 75
    assert cells[0, 1] == 20  # nobody, answered as 6 people of 3 examples each
    assert cells.sum() == 95


def test_whether_a_value_occurs_does_not_show() -> None:
    """By exact cells each of 1,160 questions was answered rightly."""
    rng = np.random.default_rng(0)
    where = distance.histogram_bins(np.ones((1, 1)))[0, 0]
    shows = {}
    for people in (0, 1):
        z = np.concatenate([np.zeros(30), np.ones(people)])[:, None]
        answers = [answer_cells(z, np.arange(len(z)), 5, lambda _: round(rng.normal(0, 2))) for _ in range(400)]
        shows[people] = np.mean([cells[0, where] > 0 for cells in answers])
    assert shows[1] - shows[0] < 0.1


def test_other_data_are_another_question() -> None:
    """With the same errors, the difference of two answers would show a person that an option leaves out."""
    config = tiny.run_config()
    others = [tiny.run_config(seed=config.seed + 1), tiny.run_config(data__options={"any": 1})]
    digests = {digest_summary(b"base", each, people) for each in (config, *others) for people in ("these", "more")}
    assert len(digests) == 6
    same = [digest_summary(b"base", each, "these") for each in (config, tiny.run_config(federation__rounds=7))]
    assert same[0] == same[1]
