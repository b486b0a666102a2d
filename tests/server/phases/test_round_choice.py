"""The choice of the round, on merged validation counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.site import Site
from common.metrics.counts import Counts
from common.metrics.table_names import ALL_PATIENTS
from common.replies import ValidateReply
from common.reports import SplitCounts, ValidateReport
from common.requests import HandshakeRequest, Request, ValidateRequest
from server import strategies
from server.phases.validate import is_better
from server.run import Federation, Run, digest_weights
from tests import tiny
from tests.server.phases.memory_runs import fails_in, lead, lines, quiet, scripts
from tests.wire import Answer, FakeGrid, Script, change_report

pytestmark = pytest.mark.usefixtures("waiting_clock")


def constant(value: np.ndarray) -> Counts:
    return Counts(value, np.zeros((3, 2, 64), np.int64), np.zeros(()))


def checked(script: Script, by_round: dict[int, np.ndarray]) -> Script:
    """Return a script whose validation counts are given."""

    def answer(request: Request) -> Answer:
        if isinstance(request, HandshakeRequest):
            reply = script(request)
            examples = max(int(each.sum()) for each in by_round.values())
            held = SplitCounts(patients=1, examples=examples, classes=(examples, 0, 0))
            return change_report(reply, counts=reply.report.counts.model_copy(update={"validation": held}))
        if not isinstance(request, ValidateRequest):
            return script(request)
        counts = constant(by_round[request.round])
        return ValidateReply("ignored", ValidateReport(patients=1), tables={ALL_PATIENTS: counts})

    return answer


def test_the_round_is_chosen_on_merged_counts_not_on_the_mean_of_sites(sites: dict[str, Site], tmp_path: Path) -> None:
    # accuracy: a small site that gains and a large one that loses. The mean of sites prefers round 2 (0.9 and 0.7
    # against 0.6 and 0.8), the merged counts round 1.
    small = {1: np.diag([6, 0, 0]), 2: np.diag([9, 0, 0])}
    small[1][0, 1], small[2][0, 1] = 4, 1
    large = {1: np.diag([800, 0, 0]), 2: np.diag([700, 0, 0])}
    large[1][0, 1], large[2][0, 1] = 200, 300
    north, south = scripts(sites)
    config = tiny.run_config(evaluation__metric="accuracy")
    done = lead(FakeGrid([checked(north, small), checked(south, large)]), config, tmp_path)
    values = [line["validation"]["accuracy"] for line in lines(tmp_path)]
    assert values == pytest.approx([806 / 1010, 709 / 1010])
    assert done["chosen"] == 1
    last = tiny.run_config(evaluation__metric="accuracy", federation__choose="last")
    assert lead(FakeGrid([north, south]), last, tmp_path / "last")["chosen"] == 2


def test_a_lost_site_does_not_make_a_round_look_better(sites: dict[str, Site], tmp_path: Path) -> None:
    # south's patients are hard; in round 2 it is silent, and the merged accuracy rises although north's falls
    easy = {1: np.diag([90, 0, 0]), 2: np.diag([85, 0, 0])}
    easy[1][0, 1], easy[2][0, 1] = 10, 15
    hard = {1: np.diag([50, 0, 0])}
    hard[1][0, 1] = 50
    north, south = scripts(sites)
    silent = fails_in(checked(south, hard), lambda request: None, "validate", {2})
    config = tiny.run_config(evaluation__metric="accuracy", federation__round_timeout=2.0)
    done = lead(FakeGrid([checked(north, easy), silent]), config, tmp_path)
    assert [line["validation"]["accuracy"] for line in lines(tmp_path)] == pytest.approx([0.7, 0.85])
    assert lines(tmp_path)[1]["lost"] == {"south": "validation: no answer within 2 s"}
    assert done["chosen"] == 1


def test_a_smaller_loss_is_better(sites: dict[str, Site]) -> None:
    config = tiny.run_config(evaluation__metric="loss")
    run = Run(
        FakeGrid([]), config, strategies.build_strategy(config.federation.strategy), Federation(), tiny.TASK, quiet
    )
    low, high = (Counts(np.diag([5, 5, 0]), np.zeros((3, 2, 64), int), np.asarray(v)) for v in (1.0, 2.0))
    assert is_better(run, {"a": low}, {"a": high})
    assert not is_better(run, {"a": high}, {"a": low})
    assert not is_better(run, {"a": low}, {"a": low})
    assert not is_better(run, {"b": high}, {"a": low})


def test_the_choice_of_the_round_does_not_freeze_where_no_site_answers_in_both(sites: dict[str, Site]) -> None:
    config = tiny.run_config(evaluation__metric="loss")
    run = Run(
        FakeGrid([]), config, strategies.build_strategy(config.federation.strategy), Federation(), tiny.TASK, quiet
    )
    low, high = (Counts(np.diag([5, 5, 0]), np.zeros((3, 2, 64), int), np.asarray(v)) for v in (1.0, 2.0))
    assert is_better(run, {"a": low}, {"b": high})
    assert not is_better(run, {"a": high}, {"b": low})
    assert not is_better(run, {}, {"b": low})
    assert is_better(run, {"a": high, "b": low}, {"b": high, "c": low})  # on b alone


def test_the_kept_weights_are_the_chosen_rounds(sites: dict[str, Site], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    good, bad = np.diag([10, 10, 10]), np.zeros((3, 3), int)
    bad[0, 1], bad[1, 1], bad[2, 2] = 10, 10, 10
    both = [checked(script, {1: good, 2: bad}) for script in scripts(sites)]
    done = lead(FakeGrid(both), tiny.run_config(), tmp_path)
    first = lines(tmp_path)[0]["weights"]
    assert (done["chosen"], done["weights"]) == (1, first)
    assert digest_weights(load_file(tmp_path / "model.safetensors")) == first


def test_pooled_figures_come_from_added_counts(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config()
    done = lead(FakeGrid(scripts(sites)), config, tmp_path)
    both = [np.asarray(done["test"]["all"][name]["confusion"]) for name in sites]
    merged = sum(both)
    assert done["pooled"]["all"]["confusion"] == merged.tolist()
    assert done["pooled"]["all"]["accuracy"]["value"] == pytest.approx(np.trace(merged) / merged.sum())
    assert done["pooled"]["all"]["patients"] == 4
