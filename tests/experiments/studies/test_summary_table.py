from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import DataError
from experiments.report.build import build_report
from experiments.report.write import write_report
from experiments.studies import summary_table


def test_differences_are_those_of_the_models_figures(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    report = build_report(folder)
    write_report(report, folder)
    values = {model.name: model.pooled.macro_f1.value for model in report.models if model.pooled}
    local = [value for name, value in values.items() if name.startswith("local:") and value is not None]
    federated, pooled = values["federated"], values["pooled"]
    assert federated is not None
    assert pooled is not None
    head, _, row, mean = summary_table.render_difference_table([folder]).splitlines()
    assert head.startswith("| seed | minus pooled (paired 95% interval) |")
    assert f"| 1 | {federated - pooled:+.3f}" in row
    assert row.endswith(f"| {federated - sum(local) / len(local):+.3f} |")
    difference = federated - pooled
    assert mean.startswith(f"| all runs | {difference:+.3f} ({difference:+.3f} to {difference:+.3f}) |")


def test_a_run_that_is_not_complete_is_refused(make_run: Callable[..., Path]) -> None:
    folder = make_run(status="failed")
    write_report(build_report(folder), folder)
    with pytest.raises(DataError, match="not complete"):
        summary_table.render_difference_table([folder])


def test_a_run_without_a_report_is_named_in_one_line(tmp_path, capsys) -> None:
    for arguments, says in (([str(tmp_path / "none")], "report.json"), ([], "no run")):
        assert summary_table.main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert says in printed.err
