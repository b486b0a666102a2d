"""What a report says of the inputs' importance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.report.build import build_report
from experiments.report.plots import drivers
from tests.experiments.report.plain_page import render_plain


def test_importance_is_the_mean_over_patients_and_stands_on_the_page(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    assert "What drives the predictions" not in render_plain(build_report(folder))
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
    assert drivers.rank_inputs(report) == [("<rr>", pytest.approx(1.5)), ("I", pytest.approx(0.5))]
    people, signal, weight = drivers.merge_class_signals(report)["N"]
    assert people == 8
    assert signal.tolist() == [[1.0, 1.0, 0.0]]
    assert weight.tolist() == [[0.0, 2.0, 1.0]]
    text = render_plain(report)
    for part in (
        "What drives the predictions",
        "by occlusion",
        "&lt;rr&gt;",
        "1.5000",
        "west: suppressed",
        'id="overlay-',
    ):
        assert part in text, part
    assert re.search(r"N, \w+: peak at 0\.01 s", text)


def test_coefficients_are_drawn_with_their_interval_and_each_hospitals_own(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    rows = [
        {"name": "<age>", "figure": {"value": 0.2, "low": 0.1, "high": 0.3}, "sites": {"north": {"value": -0.25}}},
        {"name": "sex", "figure": {"value": -0.4, "low": None, "high": None}, "sites": {"north": {"value": 0.125}}},
    ]
    written = {"unit": "one deviation", "interval": "95% interval of this test", "note": "", "rows": rows}
    (folder / "coefficients.json").write_text(json.dumps(written))
    report = build_report(folder)
    assert [row.name for row in drivers.rank_coefficients(report)] == ["sex", "<age>"]
    text = render_plain(report)
    for part in (
        "&lt;age&gt;", "+0.200", "+0.100 to +0.300", "-0.250", "95% interval of this test.", "with one deviation",
        "no interval", 'id="coefficients-', "Small marks: models that one hospital trained alone",
    ):  # fmt: skip
        assert part in text, part


def test_gains_are_added_up_to_the_chosen_round(make_run: Callable[..., Path]) -> None:
    folder = make_run(rounds=3)
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for line, gain in zip(lines, (3.0, 1.0, 100.0), strict=True):
        line["gains"] = {"age": gain, "sex": 1.0}
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = json.loads((folder / "federated.json").read_text())
    (folder / "federated.json").write_text(json.dumps(outcome | {"chosen": 2}))
    report = build_report(folder)
    assert report.gains == {"age": 4.0, "sex": 2.0}
    text = render_plain(report)
    assert "67%" in text
    assert 'id="gains-' in text
