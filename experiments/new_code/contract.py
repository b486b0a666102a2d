"""What every plug-in must do, as checks for a test of one's own; `wardround new` writes such a test.

Each check raises AssertionError with a sentence that says what is wrong. `run_with` runs two rounds of a federation in
a process of its own, in which the plug-in is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from common.metrics.registry import Metric
from common.plugins import GROUPS
from common.settings import Section, validate_settings
from common.task import Task
from experiments.new_code.create import KINDS

Classes = npt.NDArray[np.int64]
TASKS = (
    Task("t", "multiclass", ("no", "yes"), ("no", "yes"), 0, 0, 0.0, ("a", "b", "c"), ()),
    Task("s", "multiclass", ("N", "V", "F"), ("n", "v", "f"), 2, 96, 125.0, ("rr",), ("II", "V1")),
)
"""A task of a table and one of a signal; a model must fit one of them."""
LIMIT_SECONDS = 600


def check_options(module: ModuleType) -> Section:
    """Check that a plug-in has options with defaults, and return these."""
    assert issubclass(module.Options, Section), "Options must be a common.settings.Section"
    options: Section = validate_settings(module.Options, {}, "Options")
    return options


def check_model(module: ModuleType) -> None:
    """Check a model: shapes, no influence between examples, gradients, and equal weights from equal seeds."""
    import torch

    options = check_options(module)
    fitting = 0
    for task in TASKS:
        torch.manual_seed(1)
        try:
            model = module.build(task, options)
        except ConfigError:
            continue
        fitting += 1
        torch.manual_seed(1)
        again = module.build(task, options)
        state = model.state_dict()
        assert all(torch.equal(state[name], value) for name, value in again.state_dict().items()), "build draws anew"
        model.eval()
        x = torch.randn(5, task.channels, task.samples)
        features = torch.randn(5, len(task.features))
        logits = model(x, features)
        assert logits.shape == (5, len(task.classes)), f"logits of shape {tuple(logits.shape)}, not (batch, classes)"
        alone = torch.cat([model(x[i : i + 1], features[i : i + 1]) for i in range(5)])
        assert torch.allclose(logits, alone, atol=1e-5), "an example changes the logits of another"
        model.train()
        model(x, features).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
    assert fitting, "the model fits neither a table nor a signal"


def check_strategy(module: ModuleType) -> None:
    """Check a strategy: it builds one of Flower's with its default options."""
    from flwr.serverapp.strategy import Strategy

    assert isinstance(module.build(check_options(module)), Strategy), "build must return a flwr Strategy"


def check_data(module: ModuleType, options: dict[str, Any], folder: Path, data: Path | None = None) -> None:
    """Check a data set: patients and examples agree, whichever of them are read.

    Args:
        module: the data set.
        options: values of its options.
        folder: an empty folder for prepared and generated data.
        data: a folder of its data; none: generated.
    """
    from sites.datasets import Source

    chosen = validate_settings(module.Options, options, "options")
    where = data or module.default_folder(chosen, folder / "generated", 1)
    source = Source(module, chosen, where, folder / "store")
    task, patients = source.task(), source.patients()
    ids = [item.id for item in patients]
    assert len(set(ids)) == len(ids) >= 2, "patients(...) must return at least two, each with its own id"
    cohort = source.read(ids)
    assert cohort.task == task, "read(...) returns another task than task(...)"
    assert cohort.patients == tuple(ids), "read(...) returns other patients, or in another order"
    for at, item in enumerate(patients):
        own = cohort.y[cohort.patient == at]
        if task.kind == "multiclass":
            counts = tuple(np.bincount(own, minlength=len(task.classes)).tolist())
            assert counts == tuple(item.examples), f"{item.id}: {counts} examples were read, {item.examples} announced"
        assert cohort.persons[at] == item.person, f"{item.id}: another person was read than announced"
    some = source.read(ids[-1:])
    rows = cohort.patient == len(ids) - 1
    assert np.array_equal(some.features, cohort.features[rows], equal_nan=True), "inputs depend on which are read"
    assert np.array_equal(some.y, cohort.y[rows]), "labels depend on which are read"
    if not task.missing:
        assert np.isfinite(cohort.features).all(), "an input is missing: state missing=True in the task"


def check_metric(metric: Metric, truth: Callable[[Classes, Classes], float]) -> None:
    """Check a metric against a function of the true and the predicted classes of every example."""
    from common.metrics import counts
    from common.metrics.count_statistics import CountStatistics

    assert metric.compute is not None, "compute: a function of CountStatistics"
    draw = np.random.default_rng(1)
    for classes in (2, 3):
        names = tuple(f"class {i}" for i in range(classes))
        task = Task("t", "multiclass", names, names, 0, 0, 0.0, ("a",), ())
        y = draw.integers(0, classes, 300)
        logits = draw.normal(size=(300, classes)) + np.eye(classes)[y]
        counted = counts.count_predictions(logits, y, np.zeros(300, np.int64), 1, 64).total()
        value = float(np.asarray(metric.compute(CountStatistics(task, counted, counted))))
        expected = truth(y, logits.argmax(1))
        assert abs(value - expected) < 1e-9, f"{metric.name} of {classes} classes is {value}, not {expected}"
        assert metric.low is None or value >= metric.low, f"{metric.name} is below its lowest value"
        assert metric.high is None or value <= metric.high, f"{metric.name} is above its highest value"


def run_with(
    kind: str, name: str, module: ModuleType, folder: Path, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the report of two rounds of a federation on generated data, in which a plug-in is installed and used.

    Args:
        kind: data, model, strategy or metric.
        name: the plug-in's name.
        module: the plug-in.
        folder: an empty folder.
        options: values of the plug-in's options.

    Raises:
        AssertionError: the run failed; with its output.
    """
    source = Path(str(module.__file__)).resolve()
    target = f"{source.stem}:METRIC" if kind == "metric" else source.stem
    installed = folder / "installed" / f"contract_{name}-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: contract-{name}\nVersion: 0\n", encoding="utf-8")
    group = GROUPS[KINDS[kind][0]]
    (installed / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n", encoding="utf-8")
    config = folder / "run.yaml"
    config.write_text(json.dumps(_configuration(kind, name, module, folder, options or {})), encoding="utf-8")
    root = Path(__file__).resolve().parents[2]
    paths = [str(installed.parent), str(source.parent), str(root), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "experiments.cli.launcher", "run", str(config), "--runs", str(folder / "runs")]
    result = subprocess.run(
        [*command, "--quiet"], env=environment, cwd=folder, capture_output=True, text=True, timeout=LIMIT_SECONDS
    )
    assert result.returncode == 0, result.stderr[-2000:] or result.stdout[-2000:]
    (report,) = (folder / "runs").glob("*/report.json")
    content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return content


def _configuration(kind: str, name: str, module: ModuleType, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration of two rounds that uses a plug-in."""
    from sites.datasets.table import simulate

    config: dict[str, Any] = {
        "name": "contract",
        "data": {"dataset": "table", "path": str(folder / "table"), "scaling": "standard"},
        "sites": {"scheme": "natural", "split": "patient", "validation": 0.2, "test": 0.25},
        "model": {"name": "logreg"},
        "federation": {"rounds": 2},
        "evaluation": {"metric": "auroc", "bootstrap": 50},
        "baselines": {"local": False, "pooled": False, "classical": []},
    }
    if kind == "data":
        config["data"] = {"dataset": name, "options": options}
        config["sites"] = {"scheme": "even", "count": 2, "split": "patient"}
        config["evaluation"]["metric"] = "macro_f1"
        return config
    if kind == "model" and not _fits_table(module, options):
        config["data"] = {"dataset": "synthetic"}
        config["evaluation"]["metric"] = "macro_f1"
    else:
        simulate.generate(folder / "table", hospitals=2, patients=120, seed=1)
    if kind == "model":
        config["model"] = {"name": name, "options": options}
    elif kind == "strategy":
        config["federation"]["strategy"] = {"name": name, "options": options}
    else:
        config["evaluation"]["metric"] = name
    return config


def _fits_table(module: ModuleType, options: dict[str, Any]) -> bool:
    try:
        module.build(TASKS[0], validate_settings(module.Options, options, "options"))
    except ConfigError:
        return False
    return True
