from __future__ import annotations

import json
import subprocess
import sys

import jsonschema
import pytest
from pydantic import ValidationError

from common.errors import DataError
from experiments.report.build import build_report
from experiments.report.document import report as model
from experiments.report.document.run import Data, Run


def test_published_schema_is_the_models() -> None:
    assert json.loads(model.SCHEMA_FILE.read_text(encoding="utf-8")) == model.build_json_schema(), (
        "run python -m experiments.report.document.report"
    )


@pytest.mark.parametrize("status", ["complete", "interrupted"])
def test_a_report_fulfils_the_schema_and_survives_json(make_run, status) -> None:
    report = build_report(make_run(status=status))
    text = model.to_json(report)
    schema = json.loads(model.SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    assert json.loads(text)["schema"] == "wardround.report/2"
    assert model.from_json(text) == report


def test_schema_refuses_what_is_no_report(make_run) -> None:
    raw = json.loads(model.to_json(build_report(make_run())))
    raw["models"][0]["worst"]["value"] = "low"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw, model.build_json_schema())
    with pytest.raises(DataError, match=r"models\.0\.worst\.value"):
        model.from_json(json.dumps(raw))


def test_synthetic_data_without_notice_are_refused() -> None:
    with pytest.raises(ValidationError, match="synthetic data need a notice"):
        model.Report(run=Run(id="a", name="a", status="complete"), data=Data(synthetic=True))


def test_import_is_light() -> None:
    script = (
        "import sys, experiments.report.write, experiments.report.build, experiments.report.pages.tables;"
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'jinja2', 'flwr', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_report_of_version_1_is_read_with_todays_names(make_run) -> None:
    report = build_report(make_run())
    text = model.to_json(report)
    assert '"transfers":' in text
    old = text.replace('"transfers":', '"travel":')
    old = old.replace('"wardround.report/2"', '"wardround.report/1"')
    assert model.from_json(old) == report
    with pytest.raises(DataError, match=r"wardround\.report/2: schema"):
        model.from_json(text.replace('"wardround.report/2"', '"wardround.report/3"'))
    with pytest.raises(DataError, match="not a wardround"):
        model.from_json(old[:-9])


def test_a_run_folder_of_version_1_gives_the_same_report(make_run) -> None:
    folder = make_run()
    report = build_report(folder)
    for name, new, old in (
        ("rounds.jsonl", '"rounds":', '"of":'),
        ("events.jsonl", '"handshake"', '"hello"'),
        ("run.json", '"format": 2, ', ""),
    ):
        text = (folder / name).read_text()
        assert new in text, name
        (folder / name).write_text(text.replace(new, old))
    assert build_report(folder) == report
    (folder / "federated.json").unlink()
    assert [site.name for site in build_report(folder).sites] == [site.name for site in report.sites]
