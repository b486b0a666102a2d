"""A threshold or a metric on which no validation patient can decide is refused before any training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from common.config import parse_config
from common.errors import ConfigError
from common.reports import HandshakeCounts, SplitCounts
from common.task import Task
from server.run import Federation, Run, check_validation_patients
from server.strategies import build_strategy

EVENT = Task("e", "multiclass", ("quiet", "sepsis"), ("", ""), 0, 0, 0.0, ("a",), (), utility=True)
THREE = Task("t", "multiclass", ("a", "b", "c"), ("", "", ""), 0, 0, 0.0, ("a",), ())


def federation(*validation: tuple[int | None, ...], task: Task = EVENT) -> Federation:
    """Return sites with so many validation examples of each class."""
    result = Federation()
    result.task = task
    for number, classes in enumerate(validation):
        examples = sum(count or 0 for count in classes) or int(None in classes)
        part = SplitCounts(patients=min(examples, 1), examples=examples, classes=classes)
        train = SplitCounts(patients=1, examples=2, classes=(1,) * len(classes))
        counts = HandshakeCounts(train=train, validation=part, test=train)
        result.reports[f"site-{number}"] = SimpleNamespace(counts=counts)  # type: ignore[assignment]
    return result


def wanted(**evaluation: Any) -> Any:
    choose = evaluation.pop("choose", "best")
    return parse_config({"federation": {"choose": choose}, "evaluation": evaluation})


@pytest.mark.parametrize("rule", ["youden", "f1", "utility", "false_alarms"])
def test_a_threshold_without_validation_patients_is_refused(rule: str) -> None:
    with pytest.raises(ConfigError, match=rf"evaluation\.threshold={rule}: no hospital has validation patients"):
        check_validation_patients(wanted(threshold=rule), federation((0, 0), (0, 0)))


def test_a_threshold_without_validation_events_is_refused() -> None:
    none = federation((40, 0), (9, 0))
    with pytest.raises(ConfigError, match=r"threshold=youden: no validation example is of the class sepsis"):
        check_validation_patients(wanted(threshold="youden"), none)
    check_validation_patients(wanted(threshold="false_alarms"), none)
    with pytest.raises(ConfigError, match=r"threshold=false_alarms: no validation example is of the class quiet"):
        check_validation_patients(wanted(threshold="false_alarms"), federation((0, 3)))


def test_a_metric_that_has_no_value_on_validation_patients_is_refused() -> None:
    none = federation((40, 0))
    with pytest.raises(ConfigError, match=r"evaluation\.metric=auroc: no validation example is of the class sepsis"):
        check_validation_patients(wanted(metric="auroc"), none)
    check_validation_patients(wanted(metric="auroc", choose="last"), none)
    check_validation_patients(wanted(metric="accuracy"), none)
    check_validation_patients(wanted(metric="auroc"), federation((0, 0)))  # without any, the last round is kept


def test_what_can_be_chosen_is_not_refused() -> None:
    check_validation_patients(wanted(threshold="youden", metric="auroc"), federation((40, 0), (0, 1)))
    check_validation_patients(wanted(threshold="youden", metric="auroc"), federation((40, None)))  # suppressed
    check_validation_patients(wanted(), federation((0, 0, 0), task=THREE))


def test_external_sites_choose_nothing() -> None:
    there = federation((40, 4))
    there.external = frozenset(there.reports)
    with pytest.raises(ConfigError, match="no hospital has validation patients"):
        check_validation_patients(wanted(threshold="f1"), there)


def test_a_run_is_refused_after_the_handshake() -> None:
    config = wanted(threshold="youden")
    strategy = build_strategy(config.federation.strategy)
    with pytest.raises(ConfigError, match=r"evaluation\.threshold=youden: no hospital has validation patients"):
        Run.from_handshake(SimpleNamespace(), config, strategy, federation((0, 0)), lambda event: None)  # type: ignore[arg-type]
