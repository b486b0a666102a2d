"""The examples of CONTRIBUTING.md work as they stand there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import Strategy

from common.metrics.registry import Metric
from experiments.report.pages.section import Section
from experiments.report.pages.sections import SECTIONS
from sites.datasets import Source
from tests import tiny

GUIDE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def example(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The only example with a certain line, as a module."""
    (code,) = [block for block in BLOCKS if request.param in block]
    module = ModuleType("contributing_example")
    sys.modules[module.__name__] = module  # pydantic looks annotations up there
    exec(compile(code, str(GUIDE), "exec"), vars(module))
    yield module
    del sys.modules[module.__name__]


@pytest.mark.parametrize("example", ["CARD = DataCard("], indirect=True)
def test_the_data_set_reads_what_it_generates(example: ModuleType, tmp_path: Path) -> None:
    options = example.Options(simulated=True, patients=20)
    source = Source(example, options, example.default_folder(options, tmp_path, 1), tmp_path)
    patients = source.patients()
    cohort = source.read([patient.id for patient in patients])
    assert len(patients) == len(cohort.y) == 40
    assert {patient.site for patient in patients} == {"north", "south"}
    assert sum(patient.examples[1] for patient in patients) == cohort.y.sum() > 0
    np.testing.assert_array_equal(cohort.features[:, 0], cohort.age)


@pytest.mark.parametrize("example", ["class Pooling("], indirect=True)
def test_the_model_gives_logits(example: ModuleType) -> None:
    model = example.build(tiny.TASK, example.Options())
    x = torch.randn(3, tiny.TASK.channels, tiny.TASK.samples)
    assert model(x, torch.zeros(3, len(tiny.TASK.features))).shape == (3, len(tiny.TASK.classes))


@pytest.mark.parametrize("example", ['class Options(Section):\n    """Options of FedRate'], indirect=True)
def test_the_strategy_is_one_of_flower(example: ModuleType) -> None:
    assert isinstance(example.build(example.Options()), Strategy)


@pytest.mark.parametrize("example", ["def build_sizes("], indirect=True)
def test_the_section_has_what_its_template_shows(example: ModuleType) -> None:
    section = example.SECTION
    evaluations = {site: SimpleNamespace(patients=patients) for site, patients in {"a": 3, "b": 9}.items()}
    report = SimpleNamespace(federated=SimpleNamespace(sites=evaluations))
    assert isinstance(section, Section)
    assert section.after in {item.id for item in SECTIONS}
    assert section.applies(report)
    assert section.build(report) == {"sizes": [("b", 9), ("a", 3)]}
    (template,) = re.findall(r"^```html\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"\bdata\.(\w+)", template)) == {"sizes"}


def test_the_metric_is_one_of_the_registry() -> None:
    (code,) = [block for block in BLOCKS if block.startswith("Metric(")]
    metric = eval(code, {"Metric": Metric})
    assert metric.selectable
    assert metric.is_better(0.9, 0.8)
