"""What a policy is said to let a coordinator learn."""

from __future__ import annotations

import pytest

from client.gate.explain import REPLY_RISKS
from client.policy import SitePolicy

KINDS = ("scaling", "train", "grow", "domain_shift")


@pytest.mark.parametrize("kind", KINDS)
def test_changed_records_are_named_where_they_are_what_is_learnt(kind: str) -> None:
    (risk,) = [item for item in REPLY_RISKS if item.reply == kind]
    assert "changed record" in risk.remains(SitePolicy())
    for policy in (SitePolicy(record_noise=0.0), SitePolicy(replaced_values=0.0)):
        assert "changed record" not in risk.remains(policy)


def test_a_hospital_that_trains_privately_still_fills_leaves_of_drawn_trees() -> None:
    (risk,) = [item for item in REPLY_RISKS if item.reply == "grow"]
    assert "differentially private" in risk.limits(SitePolicy(private_only=True))
    assert "epsilon" in risk.remains(SitePolicy(private_only=True))


def test_replaced_outcomes_of_validation_patients_are_named() -> None:
    (risk,) = [item for item in REPLY_RISKS if item.reply == "validate"]
    assert "15% of outcomes are replaced once" in risk.limits(SitePolicy())
    assert "only the replaced ones" in risk.remains(SitePolicy())
    for policy in (SitePolicy(replaced_values=0.0), SitePolicy(evaluation="private")):
        assert "replaced" not in risk.limits(policy) + risk.remains(policy)
