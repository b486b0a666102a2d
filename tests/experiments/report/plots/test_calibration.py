"""The reliability diagram and the decision curve, against counting the rows anew."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.special import expit, logit

from common.metrics import calibration, counts, evaluation
from common.metrics.figures import Evaluation, Figure
from common.metrics.resampling import COARSE_FACTOR
from common.task import Task
from experiments.report.build import build_report
from experiments.report.document.report import Report
from experiments.report.document.results import ModelResult
from experiments.report.document.run import Notice, Run
from experiments.report.pages.html import render_html
from experiments.report.pages.sections import list_plots
from experiments.report.plots import calibration as calibration_plots
from experiments.report.plots.drawing import Plot

EVENT = Task("sepsis", "multiclass", ("no", "yes"), ("quiet", "sepsis"), 0, 0, 0.0, ("age",), ())
BEATS = Task("beats", "multiclass", ("N", "V", "F"), ("normal", "ventricular", "fusion"), 1, 8, 125.0, (), ("I",))
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def rows(task: Task, seed: int, patients: int) -> Rows:
    """Logits, what was, and whose; every patient's examples are alike, and every seventh example is an extreme one."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 40)
    truth = rng.choice(len(task.classes), len(owner), p=[0.8, 0.2, 0.0][: len(task.classes)])
    logits = np.eye(len(task.classes))[truth] + rng.normal(size=patients)[owner, None] * np.arange(len(task.classes))
    logits[::7, 0] += 9 * np.sign(rng.normal(size=len(logits[::7])))
    return logits + rng.normal(size=logits.shape), truth, owner


def make_report(task: Task, sites: dict[str, int], minimum: int = 1, **more: Any) -> tuple[Report, dict[str, Rows]]:
    result: dict[str, Evaluation] = {}
    raw = {site: rows(task, position, patients) for position, (site, patients) in enumerate(sites.items())}
    totals, resampled = {}, {}
    for site, (logits, truth, owner) in raw.items():
        each = counts.count_predictions(logits, truth, owner, sites[site], 1024)
        held = [len(set(owner[truth == c].tolist())) for c in range(len(task.classes))]
        totals[site] = each.total()
        resampled[site] = evaluation.resample_patients(each.coarser(COARSE_FACTOR), 40, np.random.default_rng(1))
        people = calibration.count_patients_in_groups(each.scores)
        result[site] = evaluation.build_evaluation(
            task, totals[site], resampled[site], sites[site], held, curves=True, group_patients=people
        )
    whole = evaluation.pool_evaluations(task, result, totals, resampled)
    model = ModelResult(name="federated", title="Federated", kind="federated", sites=result, pooled=whole)
    run = Run(id="r", name="r", status="complete")
    return Report(run=run, task=task.to_dict(), models=(model,), **more), raw


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the plots draw, by name, before it becomes SVG; `said` their descriptions."""
    remaining: dict[str, Any] = {}

    def keep(canvas: Any, report: Report, name: str, title: str, said: str) -> Plot:
        remaining[name] = (canvas.axes, title, said)
        return Plot(title, "<svg/>", canvas)

    monkeypatch.setattr(calibration_plots, "finish_plot", keep)
    monkeypatch.setattr(calibration_plots, "cut_tiles", lambda plot, *_: plot)
    return remaining


def marks(axes: Any) -> list[tuple[float, float, str, bool]]:
    """Return the marks of a panel from left to right: probability, share, shape, filled."""
    dots = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
    result = [(*(float(v[0]) for v in dot.get_data()), dot.get_marker(), dot.get_mfc() != "none") for dot in dots]
    return sorted(result)


def test_marks_stand_where_the_rows_say_and_hollow_where_few_patients_do(drawings) -> None:
    report, raw = make_report(EVENT, {"north": 9, "south": 4})
    assert calibration_plots.draw_reliability(report)
    axes, _, said = drawings["reliability"]
    assert [panel.get_title(loc="left") for panel in axes] == ["all hospitals", "north", "south†"]
    both = tuple(np.concatenate([raw["north"][i], raw["south"][i] + (100 if i == 2 else 0)]) for i in range(3))
    shapes = set()
    for panel, (logits, truth, owner) in zip(axes, (both, raw["north"], raw["south"]), strict=True):
        odds = logits[:, 1] - logits[:, 0]
        group = np.searchsorted(calibration.RELIABILITY_CUTS, odds)
        expected = []
        for g in np.unique(group):
            here = group == g
            probability, share, people = expit(odds[here]).mean(), truth[here].mean(), len(set(owner[here].tolist()))
            shape = {0.0: "v", 1.0: "^"}.get(share, "o")
            with np.errstate(divide="ignore"):
                expected.append((*np.clip(logit([probability, share]), -8, 8), shape, people >= 5))
        result = marks(panel)
        shapes |= {(mark[2], mark[3]) for mark in result}
        assert [mark[2:] for mark in result] == [mark[2:] for mark in expected]
        np.testing.assert_allclose([mark[:2] for mark in result], [mark[:2] for mark in expected], atol=0.03)
    assert {("o", True), ("o", False)} < shapes  # so that the test sees both, and an edge
    slope = report.federated.sites["south"].classes["yes"].calibration.slope.value
    assert f"south: slope {slope:.3f}" in said


def test_a_whisker_is_the_interval_of_the_share(drawings) -> None:
    report, _ = make_report(EVENT, {"north": 9})
    calibration_plots.draw_reliability(report)
    axes = drawings["reliability"][0][1]
    groups = report.federated.sites["north"].classes["yes"].calibration.groups
    ends = [(g.observed.low, g.observed.high) for g in groups if g.observed.low is not None]
    result = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 2 and np.ptp(line.get_xdata()) == 0]
    assert len(ends) > 4
    np.testing.assert_allclose(result, np.clip(logit(np.clip(ends, 1e-9, 1 - 1e-9)), -8, 8))


def test_the_decision_curve_is_the_net_benefit_of_the_rows(drawings) -> None:
    report, raw = make_report(EVENT, {"north": 9, "south": 4})
    assert calibration_plots.draw_decision_curves(report)
    axes, _, said = drawings["decision"]
    assert len(axes) == 3
    logits, truth, _ = raw["north"]
    odds = logits[:, 1] - logits[:, 0]
    curves = {tuple(np.round(line.get_ydata(), 9)) for line in axes[1].lines if len(line.get_xdata()) > 2}
    mine, all_ = [], []
    for at in calibration.DECISION_THRESHOLDS:
        called = odds >= at
        mine.append(np.mean(called & (truth == 1)) - np.mean(called & (truth == 0)) * np.exp(at))
        all_.append(np.mean(truth == 1) - np.mean(truth == 0) * np.exp(at))
    assert {tuple(np.round(mine, 9)), tuple(np.round(all_, 9))} == curves
    assert axes[0].lines[-1].get_linestyle() == "-"
    assert axes[2].lines[-1].get_linestyle() == "--"  # four patients: broken, and marked in the title
    better = [
        expit(at) for at, a, b in zip(calibration.DECISION_THRESHOLDS, mine, all_, strict=True) if a > max(b, 0) + 1e-9
    ]
    assert f"north: the model is better than treating all or none at thresholds from {better[0]:.3f} to" in said
    assert f"{better[-1]:.3f}" in said


def test_classes_have_shapes_of_their_own_and_a_panel_everywhere_and_at_each_hospital(drawings) -> None:
    report, _ = make_report(BEATS, {"north": 9, "south": 6})
    assert calibration_plots.draw_decision_curves(report) is None
    assert calibration_plots.draw_reliability(report)
    assert calibration_plots.draw_site_reliability(report)
    axes = drawings["reliability"][0]
    assert [panel.get_title(loc="left") for panel in axes] == ["normal", "ventricular", "fusion†"]
    assert {mark[2] for mark in marks(axes[2])} == {"v"}  # nobody had it
    axes = drawings["reliability_sites"][0]
    assert [panel.get_title(loc="left") for panel in axes] == ["north", "south"]
    looks = {(line.get_color(), line.get_marker()) for line in axes[0].lines if line.get_marker() in "osD"}
    assert len({colour for colour, _ in looks}) == len({shape for _, shape in looks}) >= 2


def test_a_hospital_with_suppressed_results_says_so_in_its_panel(drawings) -> None:
    report, _ = make_report(EVENT, {"north": 9, "south": 4})
    model = report.federated
    part = model.sites["south"].model_copy(update={"suppressed": {"yes": 5}, "classes": model.sites["south"].classes})
    suppressed = {name: item.model_copy(update={"calibration": None}) for name, item in part.classes.items()}
    nothing = {"ece": Figure(value=None), "classes": suppressed}
    sites = {**model.sites, "south": part.model_copy(update=nothing)}
    report = report.model_copy(update={"models": (model.model_copy(update={"sites": sites}),)})
    for name in ("reliability", "decision"):
        {"reliability": calibration_plots.draw_reliability, "decision": calibration_plots.draw_decision_curves}[name](
            report
        )
        axes, _, said = drawings[name]
        assert [text.get_text() for text in axes[2].texts] == ["suppressed\n(fewer than 5 patients)"]
        assert "south: suppressed (fewer than 5 patients)" in said


def test_of_very_many_hospitals_the_worst_are_drawn_and_the_rest_counted(drawings, monkeypatch) -> None:
    monkeypatch.setattr(calibration_plots, "MAX_SITES", 3)
    report, _ = make_report(EVENT, {f"h{n}": 5 + n for n in range(5)})
    calibration_plots.draw_reliability(report)
    axes, title, _ = drawings["reliability"]
    errors = {site: item.ece.value for site, item in report.federated.sites.items()}
    worst = sorted(errors, key=errors.get)[-3:]
    assert [panel.get_title(loc="left") for panel in axes[1:]] == sorted(worst)
    assert title.endswith("(3 with the greatest calibration error; 2 more not drawn)")


def test_a_report_without_curves_has_no_such_plot(make_run) -> None:
    report = build_report(make_run())
    assert (
        calibration_plots.draw_reliability(report)
        is calibration_plots.draw_site_reliability(report)
        is calibration_plots.draw_decision_curves(report)
        is None
    )


@pytest.mark.slow
def test_twenty_hospitals_fit_on_the_page_and_in_words() -> None:
    names = {f"ward-{n:02d}": 3 + n % 7 for n in range(1, 21)}
    notice = Notice(level="synthetic", text="SYNTHETIC patients.")
    report, _ = make_report(EVENT, names, notices=(notice,))
    plots = {name: list_plots()[name](report) for name in ("reliability", "decision")}
    text = render_html(report, plots)
    assert len(text.encode()) < 5_000_000
    for plot in plots.values():
        root = ElementTree.fromstring(plot.file)
        said = root.find("{http://www.w3.org/2000/svg}desc").text
        texts = {"".join(item.itertext()).removesuffix("†") for item in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {*names, "all hospitals", "SYNTHETIC"} <= texts
        assert all(f"{site}: " in said for site in names)
        assert text.count(f'role="img" aria-label="{plot.title}: ') == len(names) + 1
    assert len(re.findall("<figcaption><strong class=.tag synthetic", re.sub(r">\s+<", "><", text))) == 2
