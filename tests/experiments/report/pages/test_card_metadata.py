"""The head of the model card, read by the Hugging Face Hub's own library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.report.build import build_report
from experiments.report.pages.card_metadata import build_card_metadata
from experiments.report.pages.model_card import render_model_card

Make = Callable[..., Path]


def load_card(text: str) -> Any:
    hub = pytest.importorskip("huggingface_hub")
    return hub.ModelCard(text)


def test_the_hub_reads_the_card_and_its_results(make_run: Make) -> None:
    report = build_report(make_run(synthetic=True))
    card = load_card(render_model_card(report))
    assert card.data.library_name == "wardround"
    assert card.data.tags == ["federated-learning", "medical", "synthetic"]
    assert card.data.license == "other"
    results = {result.metric_name.partition(",")[0]: result for result in card.data.eval_results}
    pooled = report.federated.pooled
    assert results["Accuracy"].metric_value == pytest.approx(pooled.accuracy.value, abs=5e-5)
    assert results["Macro-F1"].metric_type == "f1"
    assert {each.dataset_name for each in results.values()} == {"Toy beats (SYNTHETIC)"}
    assert {each.dataset_split for each in results.values()} == {"test"}
    assert card.text.lstrip().startswith("# Model card: A run")
    assert "pipeline_tag" not in card.data.to_dict()  # a signal: the Hub has no task of that kind


def test_a_table_is_a_task_that_the_hub_knows(make_run: Make) -> None:
    folder = make_run()
    outcome = json.loads((folder / "federated.json").read_text())
    outcome["task"] |= {"channels": 0, "samples": 0, "channel_names": [], "features": ["age"]}
    (folder / "federated.json").write_text(json.dumps(outcome))
    card = load_card(render_model_card(build_report(folder)))
    assert card.data.pipeline_tag == "tabular-classification"
    assert {each.task_type for each in card.data.eval_results} == {"tabular-classification"}


def test_a_card_without_results_claims_none(make_run: Make) -> None:
    report = build_report(make_run(status="interrupted", rounds=0))
    assert not {"model-index", "metrics"} & set(build_card_metadata(report))
    assert load_card(render_model_card(report)).data.eval_results is None


def test_titles_are_text_in_yaml_too(make_run: Make) -> None:
    folder = make_run()
    about = json.loads((folder / "run.json").read_text())
    about["data"]["title"] = "Beats: [1]\n---\n# x: {y}\nlicense: mit"
    (folder / "run.json").write_text(json.dumps(about))
    text = render_model_card(build_report(folder))
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "other"
    assert head["model-index"][0]["results"][0]["dataset"]["name"] == "Beats: [1] --- # x: {y} license: mit"
