from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from common.errors import DataError, UsageError
from common.metrics import evaluation, paired_resamples
from common.metrics.counts import count_predictions
from common.metrics.resampling import COARSE_FACTOR
from common.metrics.table_names import ALL_PATIENTS, RESAMPLED_SUFFIX
from common.run_folder import RunFolder
from common.task import Task
from experiments.comparison import output
from experiments.comparison.compare import compare_runs, comparison_to_dict
from experiments.report.document.report import Report, to_json
from experiments.report.document.results import ModelResult
from experiments.report.document.run import Notice, Run, Site

TASK = Task("beats", "multiclass", ("N", "V"), ("normal", "ventricular"), 1, 8, 125.0, (), ("I",))
SITES = {"north": 12, "south": 4}
DRAWS, EACH = 300, 20


def predictions(site: str, skill: float, model: int) -> tuple[Any, Any, Any]:
    """Return logits, truth, patient: hard patients are hard for every model."""
    rng = np.random.default_rng([SITES[site], 7])
    patient = np.repeat(np.arange(SITES[site]), EACH)
    truth = rng.choice(2, len(patient))
    hard = rng.normal(scale=1.5, size=SITES[site])[patient]
    noise = rng.normal(size=(len(patient), 2))
    own = np.random.default_rng([model, SITES[site]]).normal(scale=0.3, size=(len(patient), 2))
    return noise + own + (skill + hard)[:, None] * np.eye(2)[truth], truth, patient


def draws(site: str) -> Any:
    return np.random.default_rng([3, SITES[site]])


def make(
    folder: Path,
    skill: float,
    model: int = 0,
    keep: bool = True,
    only: str = "",
    synthetic: bool = False,
    **config: Any,
) -> Path:
    folder.mkdir()
    tables, results = {}, {}
    for site, people in SITES.items():
        if only and site != only:
            continue
        counts = count_predictions(*predictions(site, skill, model), people, 64)
        drawn = evaluation.resample_patients(counts.coarser(COARSE_FACTOR), DRAWS, draws(site))
        tables[site] = {ALL_PATIENTS: counts.total(), ALL_PATIENTS + RESAMPLED_SUFFIX: drawn}
        results[site] = evaluation.build_evaluation(TASK, counts.total(), drawn, people, [people, people])
    totals, drawn = (
        {site: part[ALL_PATIENTS + more] for site, part in tables.items()} for more in ("", RESAMPLED_SUFFIX)
    )
    whole = evaluation.pool_evaluations(TASK, results, totals, drawn)
    federated = ModelResult(name="federated", title="Federated model", kind="federated", sites=results, pooled=whole)
    requested = {
        "seed": 1, "data": {"dataset": "toy", "options": {}, "scaling": "auto"}, "sites": {"scheme": "natural"},
        "evaluation": {"bootstrap": DRAWS}, **config,
    }  # fmt: skip
    report = Report(
        run=Run(id=folder.name, name=folder.name, title=f"Run {folder.name}", status="complete", config=requested),
        task=TASK.to_dict(),
        sites=tuple(Site(name=site, counts={}) for site in results),
        models=(federated,),
        metric="accuracy",
        notices=(Notice(level="synthetic", text="Made by a generator."),) if synthetic else (),
    )
    (folder / "report.json").write_text(to_json(report), encoding="utf-8")
    if keep:
        people = {site: item.patients for site, item in results.items()}
        remaining = paired_resamples.pack_resamples(
            paired_resamples.resample_tables(TASK, tables, {ALL_PATIENTS: people})
        )
        RunFolder(folder).resamples("federated").write_bytes(remaining)
    return folder


def right(site: str, skill: float, model: int) -> Any:
    """Return `(patients, examples)`: whether each example is called right."""
    logits, truth, _ = predictions(site, skill, model)
    return (logits.argmax(1) == truth).reshape(SITES[site], EACH)


def by_hand(skills: tuple[float, float], sites: list[str]) -> tuple[float, float, float]:
    """Return the difference in accuracy and its interval, resample by resample, patient by patient."""
    deltas = []
    weights = {
        site: draws(site).multinomial(SITES[site], np.full(SITES[site], 1 / SITES[site]), size=DRAWS) for site in sites
    }
    for draw in range(DRAWS):
        scores = []
        for model, skill in enumerate(skills):
            hits = total = 0
            for site in sites:
                called = right(site, skill, model)
                for person, times in enumerate(weights[site][draw]):
                    hits += times * called[person].sum()
                    total += times * EACH
            scores.append(hits / total)
        deltas.append(scores[1] - scores[0])
    people = sum(SITES[site] for site in sites)
    alpha = stats.norm.cdf(stats.t.ppf(0.025, people - 1) * np.sqrt(people / (people - 1)))
    ones = [np.concatenate([right(site, skill, model) for site in sites]).mean() for model, skill in enumerate(skills)]
    return ones[1] - ones[0], *np.quantile(deltas, [alpha, 1 - alpha])


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return [make(tmp_path / "one", 0.6), make(tmp_path / "two", 1.2, model=1)]


def test_differences_are_paired_by_patient(pair) -> None:
    result = compare_runs(pair)
    assert result.metric == "accuracy"
    assert result.unpaired == {"two": ()}
    rows = {row.site: row for row in result.select_rows("federated")}
    for site, members in {"north": ["north"], "south": ["south"], paired_resamples.POOLED: list(SITES)}.items():
        item = rows[site].differences["two"]
        printed = item.figure
        assert (printed.value, printed.low, printed.high) == pytest.approx(by_hand((0.6, 1.2), members), abs=1e-5)
        assert item.reason == ""
        assert item.clear is not (printed.low <= 0 <= printed.high)


def test_pairing_narrows_the_interval(pair) -> None:
    row = next(row for row in compare_runs(pair).select_rows("federated") if row.site == paired_resamples.POOLED)
    widths = [figure.high - figure.low for figure in (row.figure("one"), row.figure("two"))]
    printed = row.differences["two"].figure
    assert printed.high - printed.low < 0.8 * np.hypot(*widths)


@pytest.mark.parametrize(
    ("change", "why", "warned"),
    [
        ({"seed": 2}, "seed differs (1 and 2)", "other splits"),
        ({"data": {"dataset": "other", "scaling": "auto"}}, "data.dataset differs (toy and other)", "other data"),
        ({"sites": {"scheme": "even"}}, "sites differs", "other splits"),
        ({"evaluation": {"bootstrap": 10}}, "evaluation.bootstrap differs (300 and 10)", ""),
        ({"keep": False}, "two kept no resampled values: run it with evaluation.keep_resamples=true", ""),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_paired_say_why(tmp_path, change, why, warned) -> None:
    result = compare_runs([make(tmp_path / "one", 0.6), make(tmp_path / "two", 1.2, model=1, **change)])
    for row in result.rows:
        item = row.differences["two"]
        assert why in item.reason
        assert (item.figure.low, item.figure.high) == (None, None)
        assert item.figure.value == pytest.approx(row.figure("two").value - row.figure("one").value)
    assert any(warned in text for text in result.warnings) if warned else not result.warnings
    [said] = output.verdict_sentences(result)
    assert why in said


def test_what_may_differ_in_a_pair_is_reported(tmp_path) -> None:
    data = {"dataset": "toy", "options": {}, "scaling": "none"}
    result = compare_runs([make(tmp_path / "one", 0.6), make(tmp_path / "two", 1.2, data=data)])
    assert result.unpaired == {"two": ()}
    assert result.warnings == ("two has another data.scaling than one",)


def test_a_hospital_that_one_run_lost_leaves_the_whole_unpaired(tmp_path) -> None:
    result = compare_runs([make(tmp_path / "one", 0.6), make(tmp_path / "two", 1.2, only="north")])
    rows = {row.site: row for row in result.select_rows("federated")}
    assert rows["north"].differences["two"].reason == ""
    assert rows[paired_resamples.POOLED].differences["two"].reason == "one run has no results of south"
    assert "two" not in rows["south"].differences


def test_other_patients_are_noticed(pair) -> None:
    raw = json.loads((pair[1] / "report.json").read_text())
    raw["models"][0]["sites"]["south"]["classes"]["V"]["patients"] = 3
    (pair[1] / "report.json").write_text(json.dumps(raw))
    rows = {row.site: row for row in compare_runs(pair).select_rows("federated")}
    assert rows["south"].differences["two"].reason == "the test patients or examples of south differ"
    assert rows["north"].differences["two"].reason == ""


def test_every_form_shows_the_same_numbers(tmp_path, pair) -> None:
    make(tmp_path / "three", 1.0, model=2, synthetic=True, seed=5)
    result = compare_runs([*pair, tmp_path / "three"])
    paths = output.write_comparison(result, tmp_path / "out")
    assert [path.name for path in paths] == ["compare.json", "compare.csv", "compare.md", "compare.html"]
    raw, table, text, page = (path.read_text(encoding="utf-8") for path in paths)
    row = next(row for row in result.select_rows("federated") if row.site == "north")
    printed = row.differences["two"].figure
    cell = f"{printed.value:+.3f} ({printed.low:+.3f} to {printed.high:+.3f})"
    screen = Console(width=160, file=io.StringIO())
    screen.print(output.render_terminal(result))
    assert cell in screen.file.getvalue()
    assert cell in text
    assert f"{printed.value:+.3f}<span" in page.replace("\n", "")
    assert json.loads(raw) == json.loads(json.dumps(comparison_to_dict(result)))
    [line] = [
        line
        for line in csv.DictReader(io.StringIO(table))
        if (line["site"], line["metric"], line["run"]) == ("north", "accuracy", "two")
    ]
    assert (float(line["difference"]), float(line["difference_low"])) == (printed.value, printed.low)
    assert (line["paired"], line["why_not"], line["synthetic"]) == ("yes", "", "yes")
    for form in (screen.file.getvalue(), text, page, table):
        assert "SYNTHETIC" in form
    assert "seed differs (1 and 5)" in text
    assert ">SYNTHETIC</text>" in page
    few = next(row for row in result.select_rows("federated") if row.site == "south")
    assert output.difference_cell(few, "two").few
    assert not output.difference_cell(row, "two").few


def test_mistakes_are_named(tmp_path, pair) -> None:
    with pytest.raises(UsageError, match="at least two different run folders"):
        compare_runs([pair[0], pair[0]])
    with pytest.raises(UsageError, match="have test results of utility"):
        compare_runs(pair, "utility")
    with pytest.raises(DataError, match=r"cannot read .*none.report\.json: give the folder of a run"):
        compare_runs([pair[0], tmp_path / "none"])


def test_the_command_writes_and_needs_no_torch(tmp_path, pair) -> None:
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "opacus", "pandas", "sites", "client"):
            raise ImportError(f"{name} is not to be had")
sys.meta_path.insert(0, Refuse())
from experiments.cli.main import main
main()
"""
    out = str(tmp_path / "out")
    order = [sys.executable, "-c", script, "compare", *map(str, pair), "--metric", "auroc", "--out", out]
    done = subprocess.run(order, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "AUROC, federated model" in done.stdout
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["metric"] == "auroc"
    done = subprocess.run([*order[:-4], "--metric", "best"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no metric named 'best': choose one of macro_f1" in done.stderr
