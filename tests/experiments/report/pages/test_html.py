from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from common.metrics import evaluation
from common.metrics.counts import count_predictions
from common.metrics.figures import Calibration, Figure
from common.metrics.resampling import COARSE_FACTOR
from common.task import Task
from experiments.report.build import build_report
from experiments.report.document.report import Report, to_json
from experiments.report.document.run import Notice, Run
from experiments.report.pages.html import TEMPLATES, render_html
from experiments.report.pages.sections import HOSPITAL_TEMPLATES, list_sections
from experiments.report.pages.sections.matrix import build_matrix, has_matrix
from experiments.report.text.findings import explain_missing_test, list_losses
from experiments.report.text.formatting import flatten_settings
from experiments.report.text.key_facts import describe_calibration, list_facts

LEAK = {"level": "leak", "text": "LEAKY split: for comparison, nothing else."}


class Page(HTMLParser):
    """Collects what the page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "a":
            self.links.append(found["href"])

    def handle_data(self, data) -> None:
        self.text += data


def test_every_hospital_has_a_row_a_link_and_a_section(make_run) -> None:
    page = Page(render_html(build_report(make_run())))
    for place, site in enumerate(("north", "south", "west"), 1):
        assert f"#hospital-{place}" in page.links
        assert f"hospital-{place}" in page.ids
        assert site in page.text


def test_page_is_well_made(make_run) -> None:
    text = render_html(build_report(make_run(notices=(LEAK,))))
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert page.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) > 5
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(drawings) == 2
    assert all(set(str(item["aria-labelledby"]).split()) <= set(page.ids) for item in drawings)


def test_every_section_has_its_file_and_every_file_its_place() -> None:
    found = {f"sections/{path.name}" for path in (TEMPLATES / "sections").glob("*.j2")}
    assert found == {section.template for section in list_sections()} | {
        *HOSPITAL_TEMPLATES,
        "sections/hospital.html.j2",
    }
    assert len({section.id for section in list_sections()}) == len(list_sections())


def test_sections_stand_in_order_with_their_entry_in_the_contents(make_run) -> None:
    report = build_report(make_run())
    page = Page(render_html(report))
    here = [section.id for section in list_sections() if section.applies(report)]
    assert [found for found in page.ids if found in here] == here
    contents = page.links[1 : page.links.index("#hospital-1")]
    assert [link[1:] for link in contents] == here
    assert "privacy" not in here
    assert "exclusions" in here


def test_page_needs_no_network(make_run) -> None:
    text = render_html(build_report(make_run()))
    page = Page(text)
    assert not [attrs for _, attrs in page.tags if "src" in attrs]
    assert {attrs["href"][:6] for tag, attrs in page.tags if tag != "a" and "href" in attrs} == {"data:,"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_bare_report_of_a_run_that_failed_at_once_is_readable() -> None:
    page = render_html(Report(run=Run(id="x", name="x", status="failed", error="no site came")))
    assert "Failed before the first round was completed" in page
    assert "no site came" in page


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_stands_beside_everything_or_nowhere(make_run, synthetic) -> None:
    text = render_html(build_report(make_run(synthetic=synthetic)))
    captions = re.findall(r"<(caption|figcaption)>(.*?)</\1>", text, re.DOTALL)
    assert all(("SYNTHETIC" in caption) is synthetic for _, caption in captions)
    assert ("SYNTHETIC DATA: no real patients" in text) is synthetic
    assert (text.count(">SYNTHETIC</text>") == 2) is synthetic
    assert ('@top-center { content: "SYNTHETIC"' in text) is synthetic
    assert ("SYNTHETIC" in text) is synthetic


@pytest.mark.parametrize("notices", [(LEAK,), ()])
def test_leak_stands_beside_everything_or_nowhere(make_run, notices) -> None:
    text = render_html(build_report(make_run(notices=notices)))
    captions = re.findall(r"<(caption|figcaption)>(.*?)</\1>", text, re.DOTALL)
    assert all(("LEAK" in caption) is bool(notices) for _, caption in captions)
    assert ("LEAK: patients are in both the training and the test set" in text) is bool(notices)
    assert ("never seen in training" in text) is not bool(notices)
    assert (LEAK["text"] in text) is bool(notices)


def test_names_and_titles_are_text_never_markup(make_run) -> None:
    evil = "<script>alert(1)</script>$x_1$\"'&"
    text = render_html(build_report(make_run(title=evil, rename=("south", evil))))
    assert text.count("<script>") == 1
    assert "alert(1)</script>" not in text
    assert Page(text).text.count(evil) > 10


def test_interrupted_run_says_how_far_it_came(make_run) -> None:
    text = render_html(build_report(make_run(status="interrupted", rounds=2, planned=8)))
    assert "Interrupted after round 2 of 8" in text
    assert "There are no test results: the run ended before the final evaluation." in text
    assert 'title="the run ended before the final evaluation"' in text
    assert "Validation metrics over the rounds" in text


def _row(text: str, name: str) -> str:
    rows = re.findall(r"<tr[^>]*><th scope=\"row\"><a href=\"#hospital-\d\">.*?</tr>", text, re.DOTALL)
    return next(row for row in rows if f">{name}<" in row)


def test_figures_on_few_patients_wear_a_dagger(make_run) -> None:
    text = render_html(build_report(make_run()))
    assert _row(text, "south").count("†") == 4
    assert _row(text, "north").count("†") == 0
    assert "† based on fewer than 5 patients" in text


def test_worst_hospital_is_marked_once(make_run) -> None:
    text = render_html(build_report(make_run()))
    assert text.count('class="is-worst"') == 1
    assert "is-worst" in _row(text, "south")
    assert "The worst hospital is south, with " in text


def test_missing_figures_say_why(make_run) -> None:
    text = render_html(build_report(make_run()))
    assert '<span class="missing" title="no examples of this class among these patients">n/a' in text


def test_hospital_lost_in_the_final_evaluation_says_so(make_run) -> None:
    folder = make_run()
    raw = json.loads((folder / "federated.json").read_text())
    raw["lost"] = {"west": "final evaluation: went offline"}
    for table in raw["test"].values():
        del table["west"]
    (folder / "federated.json").write_text(json.dumps(raw))
    report = build_report(folder)
    assert _row(render_html(report), "west").count('title="final evaluation: went offline"') == 4
    assert list_losses(report) == [
        ("west", "final evaluation", "went offline"),
        ("west", "round 2", "no answer within 9 s"),
    ]


def test_a_missing_response_within_a_round_is_listed_once(make_run) -> None:
    assert list_losses(build_report(make_run())) == [("west", "round 2", "no answer within 9 s")]


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("no answer within 9 s", "the run ended before the final evaluation"),
        ("final evaluation: went offline", "final evaluation: went offline"),
    ],
)
def test_an_unfinished_run_blames_a_hospital_only_for_its_own_absence(make_run, lost, said) -> None:
    report = build_report(make_run(status="interrupted"))
    assert explain_missing_test(report, report.sites[2].model_copy(update={"lost": lost})) == said


def test_models_are_compared(make_run) -> None:
    report = build_report(make_run())
    text = render_html(report)
    values = [model.pooled.macro_f1.value for model in report.locals]
    assert "Mean of the 3 local models" in text
    assert f"alone reaches {sum(values) / 3:.3f} on average" in text
    assert "With and without selected patients" in text


def test_key_facts_state_patients_performance_uncertainty_and_worst_hospital(make_run) -> None:
    report = build_report(make_run(synthetic=True))
    found = {fact.label: fact for fact in list_facts(report)}
    figure, item = report.federated.pooled.macro_f1, report.federated.sites["south"]
    assert found["Predicts"].detail == "SYNTHETIC: Toy beats"
    assert (found["Test patients"].value, found["Test patients"].alarm) == ("14", False)
    assert found["Test patients"].detail == "never seen in training; trained on 14 patients of 3 hospitals"
    assert found["Performance"].value == f"{figure.value:.3f}"
    assert found["Uncertainty"].value == f"{figure.low:.2f} to {figure.high:.2f}"
    assert (
        found["Uncertainty"].detail == "95% interval of the macro-F1, over patients; 1 hospital with few test patients"
    )
    assert found["Worst hospital"].value == "south"
    assert found["Worst hospital"].link == "hospital-2"
    assert found["Worst hospital"].detail.startswith(f"{item.macro_f1.value:.3f} ({item.macro_f1.low:.2f} to ")
    assert found["Worst hospital"].detail.endswith("on 3 test patients, few")
    text = render_html(report)
    assert text.index('<dl class="facts">') < text.index('<section id="summary"')
    assert all(f'<a href="#{fact.link}" class="value' in text for fact in found.values())


def figure(low: float, high: float) -> Figure:
    return Figure(value=(low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(
    ("slope", "level", "said"),
    [
        ((0.8, 1.2), (-0.1, 0.1), "no miscalibration detected"),
        ((0.5, 0.9), (-0.1, 0.1), "too extreme"),
        ((1.1, 1.9), (-0.1, 0.1), "not extreme enough"),
        ((0.8, 1.2), (0.1, 0.3), "too low"),
        ((0.5, 0.9), (-0.3, -0.1), "too extreme and too high"),
    ],
)
def test_probabilities_are_judged_by_slope_and_level(slope, level, said) -> None:
    fine = figure(0.0, 0.1)
    found = Calibration(brier=fine, ece=fine, ece_mass=fine, slope=figure(*slope), intercept=fine, large=figure(*level))
    assert describe_calibration(found) == said
    assert describe_calibration(found.model_copy(update={"slope": Figure(value=1.0)})) == ""


def test_the_verdict_means_what_it_says() -> None:
    """Logits twice too large are too extreme, half of them too timid, moved ones too high or too low."""
    task = Task("t", "multiclass", ("N", "V"), ("a", "b"), 1, 8, 125.0, (), ("I",))
    rng = np.random.default_rng(0)
    odds = rng.normal(scale=1.5, size=6000)
    truth = (rng.random(6000) < 1 / (1 + np.exp(-odds))).astype(int)
    patient = np.repeat(np.arange(300), 20)
    for change, said in (
        (odds, "no miscalibration detected"),
        (2 * odds, "too extreme"),
        (odds / 2, "not extreme enough"),
        (odds - 1, "too low"),
        (odds + 1, "too high"),
    ):
        counts = count_predictions(np.stack([np.zeros(6000), change], 1), truth, patient, 300, 1024)
        drawn = evaluation.resample_patients(counts.coarser(COARSE_FACTOR), 200, np.random.default_rng(1))
        item = evaluation.build_evaluation(task, counts.total(), drawn, 300, [300, 300])
        assert describe_calibration(item.classes["V"].calibration) == said


def test_first_screen_says_which_classes_cannot_be_read(make_run) -> None:
    report = build_report(make_run())
    [fact] = [fact for fact in list_facts(report) if fact.label == "Probabilities"]
    parts = {name: part.calibration for name, part in report.federated.pooled.classes.items() if part.calibration}
    bad = [
        name for name, found in parts.items() if describe_calibration(found) not in ("", "no miscalibration detected")
    ]
    assert fact.alarm is bool(bad)
    titles = report.class_titles
    assert all(f"for {titles[name]}" in fact.detail for name in bad)
    assert f"{report.federated.pooled.ece.value:.3f}" in fact.detail


def test_first_screen_of_a_run_without_test_figures_alarms(make_run) -> None:
    found = {fact.label: fact for fact in list_facts(build_report(make_run(status="interrupted")))}
    assert (found["Test patients"].value, found["Performance"].value) == ("none", "not known")
    assert found["Performance"].detail == "the run ended before the final evaluation"
    assert found["Performance"].alarm
    assert "Worst hospital" not in found


def test_patients_seen_in_training_are_never_called_unseen(make_run) -> None:
    found = {fact.label: fact for fact in list_facts(build_report(make_run(notices=(LEAK,))))}
    assert found["Test patients"].alarm
    assert "some of them also seen in training" in found["Test patients"].detail


def test_matrix_holds_every_model_at_every_hospital(make_run) -> None:
    report = build_report(make_run())
    found = build_matrix(report)
    assert [name for name, _ in found.models] == [model.name for model in report.models]
    assert [name for name, _ in found.rows] == ["north", "south", "west"]
    values = [model.sites[site].macro_f1.value for model in report.models for site in model.sites]
    assert (found.worst, found.best) == (min(values), max(values))
    for column, model in enumerate(report.models):
        for name, squares in found.rows:
            square, figure = squares[column], model.sites[name].macro_f1
            assert square.cell.value == figure.value
            assert square.share == pytest.approx((figure.value - min(values)) / (max(values) - min(values)))
            assert (square.own, square.worst) == (model.trained_at == name, model.worst.site == name)
            assert f"{model.title} at {name}: macro-F1 {figure.value:.3f}" in square.hint
            assert square.hint.endswith("patients, few") is (name == "south")
    assert [square.cell.value for square in found.pooled] == [model.pooled.macro_f1.value for model in report.models]


def test_matrix_by_loss_shades_the_lowest_most(make_run) -> None:
    report = build_report(make_run()).model_copy(update={"metric": "loss"})
    found = build_matrix(report)
    best = min((square for _, squares in found.rows for square in squares), key=lambda square: square.cell.value)
    assert (best.cell.value, best.share) == (found.best, 1.0)


def test_one_model_makes_no_matrix(make_run) -> None:
    report = build_report(make_run(baselines=False))
    assert not has_matrix(report)
    assert 'id="matrix"' not in render_html(report)


def test_run_without_baselines_says_so(make_run) -> None:
    assert "No other model was trained for comparison." in render_html(build_report(make_run(baselines=False)))


def test_long_runs_leave_numbers_to_the_file(make_run) -> None:
    assert "The numbers of all 101 rounds are in report.json." in render_html(
        build_report(make_run(rounds=101, planned=101))
    )


def test_many_hospitals_stay_below_5_mb(twenty) -> None:
    report = build_report(twenty)
    assert (len(report.sites), len(report.models)) == (20, 22)
    assert len(render_html(report).encode()) < 5_000_000


def test_settings_are_flat() -> None:
    assert flatten_settings({"a": {"b": [1, 2], "c": {}}, "d": None}) == [
        ("a.b", "1, 2"),
        ("a.c", "none"),
        ("d", "none"),
    ]


def test_page_is_the_same_each_time(make_run) -> None:
    report = build_report(make_run())
    assert render_html(report) == render_html(Report.model_validate_json(to_json(report)))


def test_warning_is_shown_without_a_tag(make_run) -> None:
    report = build_report(make_run())
    text = render_html(report.model_copy(update={"notices": (Notice(level="warning", text="Few resamples."),)}))
    assert "WARNING: Few resamples." in text
    assert '<div class="bar"' not in text
