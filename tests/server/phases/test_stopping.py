"""A run with `federation.patience` ends after so many rounds without a better merged validation, and tests the best."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from client.site import Site
from common.errors import ConfigError
from common.reports import SplitCounts
from common.requests import FinalTestRequest, HandshakeRequest, Request, TrainRequest
from server.run import digest_weights
from tests import tiny
from tests.server.phases.memory_runs import hello, lead, lines, quiet, scored, scripts
from tests.wire import FakeGrid

pytestmark = pytest.mark.usefixtures("waiting_clock")


@pytest.mark.parametrize(
    ("north", "south", "patience", "trained", "best"),
    [
        ([4, 6, 6, 5, 9, 9], [4, 6, 6, 5, 9, 9], 2, 4, 2),  # an equal round is no better one
        ([4, 6, 6, 5, 9, 9], [4, 6, 6, 5, 9, 9], 3, 6, 5),  # round 5 comes in time, and round 6 is the last
        ([4, 3, 5, 4, 4, 4], [4, 5, 2, 2, 4, 4], 2, 3, 1),  # merged 8, 8, 7: one site's gain is not all sites'
        ([9, 8, 8, 8, 8, 8], [9, 8, 8, 8, 8, 8], 1, 2, 1),
        ([9, 8, 8, 8, 8, 8], [9, 8, 8, 8, 8, 8], 0, 6, 1),
    ],
)
def test_rounds_end_after_the_patience(
    sites: dict[str, Site],
    tmp_path: Path,
    north: list[int],
    south: list[int],
    patience: int,
    trained: int,
    best: int,
) -> None:
    asked: list[Request] = []
    both = [
        scored(script, dict(enumerate(right, 1)), asked)
        for script, right in zip(scripts(sites), (north, south), strict=True)
    ]
    config = tiny.run_config(
        federation__rounds=6, federation__patience=patience, evaluation__metric="accuracy", evaluation__bootstrap=0
    )
    events: list[dict[str, object]] = []
    done = lead(FakeGrid(both), config, tmp_path, events.append)
    assert [line["round"] for line in lines(tmp_path)] == list(range(1, trained + 1))
    assert (done["chosen"], done["status"], done["partial"]) == (best, "complete", {})
    # what is tested and kept is the best round's model, and the test patients are asked about once, at the end
    assert digest_weights(load_file(tmp_path / "model.safetensors")) == lines(tmp_path)[best - 1]["weights"]
    tests = [request for request in asked if isinstance(request, FinalTestRequest)]
    assert [request.round for request in tests] == [best, best]
    assert digest_weights(tests[0].weights) == done["weights"] == lines(tmp_path)[best - 1]["weights"]
    last_training = max(i for i, request in enumerate(asked) if isinstance(request, TrainRequest))
    assert all(i > last_training for i, request in enumerate(asked) if isinstance(request, FinalTestRequest))
    stopped = [event for event in events if event["event"] == "stopped"]
    expected = {"round": trained, "rounds": 6, "chosen": best, "patience": patience, "metric": "accuracy"}
    assert [{key: event[key] for key in expected} for event in stopped] == ([expected] if trained < 6 else [])


def test_a_run_that_cannot_see_when_to_stop_is_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    empty = SplitCounts(patients=0, examples=0, classes=(0, 0, 0))
    reports = hello("north")(HandshakeRequest(tiny.run_config())).report
    script = hello("north", counts=reports.counts.model_copy(update={"validation": empty}))
    with pytest.raises(ConfigError, match=r"federation\.patience=10 .*no hospital has validation patients"):
        lead(FakeGrid([script]), tiny.run_config(federation__rounds="auto"), tmp_path, quiet)
