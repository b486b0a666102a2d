"""What a report says of the inputs' importance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.report.build import build_report
from experiments.report.plots import attribution
from tests.experiments.report.plain_page import render_plain


def test_importance_is_the_mean_over_patients_and_stands_on_the_page(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    assert "Importance of the inputs" not in render_plain(build_report(folder))
    outcome = json.loads((folder / "federated.json").read_text())
    explanation = {"method": "occlusion", "patients": 6, "features": {"<rr>": 1.0}, "channels": {"I": 0.5}}
    course = {"patients": 6, "signal": [[0.0, 1.0, 0.0]], "importance": [[0.0, 2.0, 0.0]]}
    other = {"patients": 2, "signal": [[4.0, 1.0, 0.0]], "importance": [[0.0, 2.0, 4.0]]}
    outcome["explanations"] = {
        "north": {**explanation, "classes": {"N": course}},
        "west": {**explanation, "patients": 2, "features": {"<rr>": 3.0}, "classes": {"N": other}, "suppressed": ["V"]},
    }
    (folder / "federated.json").write_text(json.dumps(outcome))
    report = build_report(folder)
    assert attribution.rank_inputs(report) == [("<rr>", pytest.approx(1.5)), ("I", pytest.approx(0.5))]
    people, signal, weight = attribution.merge_class_signals(report)["N"]
    assert people == 8
    assert signal.tolist() == [[1.0, 1.0, 0.0]]
    assert weight.tolist() == [[0.0, 2.0, 1.0]]
    text = render_plain(report)
    for part in (
        "Importance of the inputs",
        "by occlusion",
        "&lt;rr&gt;",
        "1.5000",
        "west: suppressed",
        'id="overlay-',
    ):
        assert part in text, part
    assert "N: peak at 0.01 s" in text
