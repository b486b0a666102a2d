"""What a report says of how far hospitals lie apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from experiments.report.build import build_report
from tests.experiments.report.plain_page import render_plain


def test_distances_stand_on_the_page(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    assert "Differences between the hospitals&#39; data" not in render_plain(build_report(folder))
    column = {"name": "<lab>", "psi": 1.234, "ks": 0.5, "suppressed": 2}
    pair = {
        "one": "north", "other": "west", "label_distance": 0.111, "label_association": 0.222, "mmd": 0.0333,
        "lda_auroc": 0.777, "psi_median": None, "psi_large": 1, "columns": [column], "suppressed": 2,
    }  # fmt: skip
    outcome = json.loads((folder / "federated.json").read_text())
    shift = {"pairs": [pair], "lost": {"south": "policy: fewer than 5 people to compare"}, "shares": {}, "columns": 3}
    (folder / "federated.json").write_text(json.dumps(outcome | {"shift": shift}))
    text = render_plain(build_report(folder))
    for part in ("0.111", "0.222", "0.0333", "0.777", "&lt;lab&gt;", "1.234", "2 cells suppressed by a hospital"):
        assert part in text, part
    assert "south: not compared, policy: fewer than 5 people to compare." in text
    assert "tree ensemble</th>" not in text
    exact = {"pairs": [{"one": "west", "other": "north", "auroc": {"value": 0.654, "low": 0.6, "high": 0.7}}]}
    (folder / "two-sample.json").write_text(json.dumps(exact))
    assert "0.654" in render_plain(build_report(folder))
