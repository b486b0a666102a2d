"""What the server checks of contributions before it adds its noise to their sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.replies import TrainReply
from common.reports import PrivacySpent, TrainReport
from server.hospital_level import find_contribution_fault
from tests import tiny


def config(noise_at: str = "server") -> RunConfig:
    return tiny.run_config(
        privacy__level="hospital", privacy__epsilon=6.0, privacy__weight_total=30, privacy__weight_cap=10,
        privacy__clip=0.5, privacy__noise_at=noise_at, training__loss="cross_entropy", federation__choose="last",
    )  # fmt: skip


def reply(norm: float, **spent: Any) -> TrainReply:
    charged = {
        "level": "hospital", "unit": "hospital", "q": 1.0, "sigma": 2.0, "steps": 1, "delta": 1e-3,
        "accountant": "rdp", "epsilon_run": 1.0, "epsilon": 1.0, "private": True, "clip": 0.5, "units": 1,
    }  # fmt: skip
    report = TrainReport(examples=3, privacy=PrivacySpent(**{**charged, **spent}))
    return TrainReply("north", report, weights={"a": np.full((4, 4), norm / 4, np.float32)})


def test_a_contribution_within_the_clip_is_summed() -> None:
    assert find_contribution_fault(reply(5.0), config()) == ""
    assert find_contribution_fault(reply(0.0), config()) == ""


def test_a_contribution_beyond_the_clip_is_not() -> None:
    assert find_contribution_fault(reply(5.1), config()) == "its contribution has norm 5.1, above 5"
    assert find_contribution_fault(reply(5.1), config("site")) == ""  # the site's own noise is in it


@pytest.mark.parametrize("sigma", [0.0, 1e5])
def test_noise_that_cannot_be(sigma: float) -> None:
    why = "it does not state what noise it was charged for"
    assert find_contribution_fault(reply(1.0, sigma=sigma), config()) == why
    silent = TrainReply("north", TrainReport(examples=3), weights=reply(1.0).weights)
    assert find_contribution_fault(silent, config()) == why
