from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from common import config
from common.errors import ConfigError
from experiments.studies import choose_penalty
from sites import datasets


def make_options(cache: Path, **options: object) -> config.RunConfig:
    data = {"dataset": "heart_disease", "cache": str(cache), "options": {"simulated": True, "patients": 60} | options}
    return config.parse_config({"data": data, "sites": {"split": "published", "validation": 0.0}})


def test_the_penalty_is_that_of_the_patients_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = make_options(tmp_path)
    result = choose_penalty.penalty_losses(wanted, (1e-5, 0.1, 1e5))
    assert [row["log_loss"] for row in result] == sorted(row["log_loss"] for row in result)
    assert result[0]["C"] != 1e-5  # which can tell nothing from anything
    source = datasets.open_source(wanted, None)
    tested = {item.id for item in source.patients() if item.published == "test"}
    everyone = source.read([item.id for item in source.patients()])
    n = sum(name not in tested for name in everyone.patients)
    assert result[0]["n"] == n
    assert result[0]["weight_decay"] == pytest.approx(2 / (result[0]["C"] * n))

    observed: list[int] = []
    original = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, x, y: observed.append(len(y)) or original(self, x, y))
    choose_penalty.penalty_losses(wanted, (1.0,))
    assert len(observed) == 25
    assert np.mean(observed) == pytest.approx(0.8 * n)


def test_a_signal_has_no_penalty_to_choose(tmp_path: Path) -> None:
    raw = {"data": {"cache": str(tmp_path), "options": {"hospitals": 2, "patients": 2, "minutes": 0.2}}}
    with pytest.raises(ConfigError, match="without a signal"):
        choose_penalty.penalty_losses(config.parse_config(raw))
