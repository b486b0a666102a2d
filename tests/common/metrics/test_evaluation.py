from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from common.errors import ConfigError
from common.metrics import counts, evaluation
from common.metrics.counts import Counts
from common.metrics.figures import Evaluation, Figure
from common.metrics.resampling import COARSE_FACTOR
from common.sections.evaluation import EvaluationConfig
from common.task import Task

TASK = Task("t", "multiclass", ("N", "S", "V"), ("n", "s", "v"), 1, 8, 125.0, (), ("lead",))
BINS = 1024


def examples(seed: int, patients: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, truth and patient of each example; the last class is rare and not at every patient."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size=n, p=[0.7, 0.25, 0.05])
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), truth] += 1
    return logits, truth, rng.integers(0, patients, n)


def assessed(
    logits: np.ndarray,
    truth: np.ndarray,
    owner: np.ndarray,
    patients: int,
    resamples: int = 40,
    seed: int = 9,
) -> tuple[Evaluation, Counts, Counts]:
    by_patient = counts.count_predictions(logits, truth, owner, patients, BINS)
    drawn = evaluation.resample_patients(by_patient.coarser(COARSE_FACTOR), resamples, np.random.default_rng(seed))
    having = [len(np.unique(owner[truth == c])) for c in range(3)]
    return evaluation.build_evaluation(TASK, by_patient.total(), drawn, patients, having), by_patient.total(), drawn


def ends(sample: Sequence[float] | np.ndarray, patients: int) -> list[float]:
    """The percentiles of a normal interval widened to Student's, by scipy's distributions."""
    wide = stats.t.ppf(0.975, patients - 1) * np.sqrt(patients / (patients - 1))
    return [float(np.quantile(sample, share)) for share in (stats.norm.sf(wide), stats.norm.cdf(wide))]


def test_intervals_equal_a_slow_bootstrap_with_the_same_draws() -> None:
    logits, truth, owner = examples(1, 6)
    result, _, _ = assessed(logits, truth, owner, 6)
    weights = evaluation.draw_bootstrap_weights(6, 40, np.random.default_rng(9)).astype(int)
    accuracy, macro, loss, auroc = [], [], [], []
    few = BINS // COARSE_FACTOR

    def area(z: np.ndarray, y: np.ndarray, bins: int) -> float:
        return float(counts.auroc(counts.count_predictions(z, y, y * 0, 1, bins).scores)[0, 1])

    for times in weights:
        rows = np.concatenate([np.flatnonzero(owner == p) for p in range(6) for _ in range(times[p])])
        z, y = logits[rows], truth[rows]
        accuracy.append(np.mean(z.argmax(1) == y))
        loss.append(np.mean(np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y]))
        f1 = [2 * np.sum((z.argmax(1) == c) & (y == c)) / (np.sum(z.argmax(1) == c) + np.sum(y == c)) for c in range(3)]
        macro.append(np.mean(f1))
        auroc.append(area(z, y, few) + area(logits, truth, BINS) - area(logits, truth, few))
    for figure, sample in (
        (result.accuracy, accuracy),
        (result.macro_f1, macro),
        (result.loss, loss),
        (result.classes["S"].auroc, auroc),
    ):
        assert [figure.low, figure.high] == pytest.approx(ends(sample, 6))


def test_scores_that_share_a_coarse_bin_keep_the_area_inside_its_interval() -> None:
    logits, truth, owner = examples(1, 8, n=800)
    result, _, drawn = assessed(logits * 0.4, truth, owner, 8, resamples=200)
    coarse = counts.auroc(drawn.scores)
    for i, item in enumerate(result.classes.values()):
        area = item.auroc
        assert area.value is not None
        assert area.low is not None
        assert area.high is not None
        assert area.low < area.value < area.high
        assert area.high - area.low == pytest.approx(np.ptp(ends(coarse[:, i], 8)))
        assert area.value > np.quantile(coarse[:, i], 0.7)


def test_figures_are_those_of_the_whole_counts() -> None:
    logits, truth, owner = examples(2, 6)
    result, total, _ = assessed(logits, truth, owner, 6)
    assert result.accuracy.value == pytest.approx(np.mean(logits.argmax(1) == truth))
    assert result.confusion == tuple(tuple(row) for row in total.confusion.tolist())
    assert result.examples == len(truth)
    assert result.classes["V"].examples == int((truth == 2).sum())
    assert result.classes["V"].patients == len(np.unique(owner[truth == 2]))
    assert result.macro_auroc.value == pytest.approx(counts.auroc(total.scores).mean())
    assert result.resamples == 40
    assert result.notes == ()


def test_an_absent_class_is_left_out_of_the_mean_and_noted() -> None:
    logits, truth, owner = examples(3, 6)
    here = truth != 2
    result, total, _ = assessed(logits[here], truth[here], owner[here], 6)
    assert result.classes["V"].f1 == Figure(value=None)
    assert result.classes["V"].auroc == Figure(value=None)
    assert result.macro_f1.value == pytest.approx(counts.f1(total.confusion)[:2].mean())
    assert "no examples of V: macro figures are over the other classes" in result.notes


def test_a_class_of_few_patients_is_noted() -> None:
    logits, truth, owner = examples(4, 8, n=2000)
    owner[truth == 2] %= 4
    result, _, _ = assessed(logits, truth, owner, 8)
    assert result.notes == ("classes that rest on fewer than 5 patients: V (4)",)


def test_one_patient_gives_no_interval() -> None:
    logits, truth, owner = examples(5, 1)
    result, _, _ = assessed(logits, truth, owner, 1)
    assert result.accuracy.value is not None
    assert result.accuracy.low is result.accuracy.high is None
    assert result.resamples == 0
    assert "no intervals: they need at least two patients" in result.notes


def test_no_examples_give_no_figures() -> None:
    result = evaluation.build_evaluation(TASK, counts.empty_counts((3, 3), BINS), None, 0, [0, 0, 0], ["kept"])
    assert result.accuracy == result.loss == result.macro_f1 == Figure(value=None)
    assert result.notes[0] == "kept"
    assert not any("no examples" in note for note in result.notes)


def test_a_single_class_has_an_f1_and_no_auroc() -> None:
    result, _, _ = assessed(np.array([[1.0, 0, 0]] * 4), np.zeros(4, int), np.array([0, 0, 1, 1]), 2)
    assert result.macro_f1.value == 1.0
    assert result.macro_auroc == Figure(value=None)


def test_a_figure_that_most_resamples_lack_has_no_interval() -> None:
    total = counts.count_predictions(np.eye(3), [0, 1, 2], [0, 0, 0], 1, BINS).total()
    draws = np.zeros((9, 3, 3), np.int64)
    draws[:, 0, 0] = draws[:, 1, 1] = 1
    draws[:3, 2, 2] = 1
    replicates = Counts(draws, np.zeros((9, 3, 2, BINS), np.int64), np.zeros(9))
    result = evaluation.build_evaluation(TASK, total, replicates, 6, [6, 6, 6])
    assert result.classes["V"].recall == Figure(value=1.0)
    assert result.classes["S"].recall == Figure(value=1.0, low=1.0, high=1.0)


def test_few_patients_who_all_agree_give_no_interval_of_no_width() -> None:
    logits, truth = np.eye(3)[[0, 1, 2, 0, 1, 2]] * 9, [0, 1, 2, 0, 1, 2]  # all right
    for patients in (3, 6):
        owner = np.arange(6) % patients
        each = counts.count_predictions(logits, truth, owner, patients, BINS)
        drawn = evaluation.resample_patients(each, 50, np.random.default_rng(1))
        result = evaluation.build_evaluation(TASK, each.total(), drawn, patients, [patients // 3] * 3)
        assert result.accuracy.value == 1.0
        assert (result.accuracy.low, result.classes["S"].recall.low) == ((1.0, None) if patients == 6 else (None, None))


def test_each_resample_draws_as_many_patients_as_there_are() -> None:
    weights = evaluation.draw_bootstrap_weights(7, 500, np.random.default_rng(1))
    assert weights.shape == (500, 7)
    assert (weights.sum(1) == 7).all()
    assert weights.mean(0) == pytest.approx(np.ones(7), abs=0.2)
    assert evaluation.draw_bootstrap_weights(0, 5, np.random.default_rng(1)).shape == (0, 0)
    assert evaluation.draw_bootstrap_weights(3, 0, np.random.default_rng(1)).shape == (0, 3)


def test_the_worst_site_is_the_lowest_or_for_the_loss_the_highest() -> None:
    logits, truth, owner = examples(6, 4)
    good, _, _ = assessed(logits + 3 * np.eye(3)[truth], truth, owner, 4)
    bad, _, _ = assessed(logits, truth, owner, 4)
    none = evaluation.build_evaluation(TASK, counts.empty_counts((3, 3), BINS), None, 0, [0, 0, 0])
    sites = {"a": good, "b": bad, "c": none, "d": bad}
    assert bad.macro_f1.value is not None
    assert good.macro_f1.value is not None
    assert bad.macro_f1.value < good.macro_f1.value
    assert evaluation.find_worst_site(sites, "macro_f1") == ("b", bad.macro_f1.value)
    assert evaluation.find_worst_site(sites, "loss") == ("b", bad.loss.value)
    assert evaluation.find_worst_site({"c": none}, "macro_f1") is None
    assert evaluation.find_worst_site({}, "loss") is None


def test_pooled_figures_equal_those_of_all_sites_counted_together() -> None:
    parts = {name: examples(seed, 5) for name, seed in (("west", 7), ("east", 8), ("north", 9))}
    done = {name: assessed(*part, 5, seed=i) for i, (name, part) in enumerate(parts.items())}
    results = {name: item[0] for name, item in done.items()}
    totals = {name: item[1] for name, item in done.items()}
    drawn = {name: item[2] for name, item in done.items()}
    result = evaluation.pool_evaluations(TASK, results, totals, drawn)
    logits, truth = (np.concatenate([part[i] for part in parts.values()]) for i in (0, 1))
    owner = np.concatenate([part[2] + 5 * i for i, part in enumerate(parts.values())])
    alone, _, _ = assessed(logits, truth, owner, 15)
    for name in ("accuracy", "macro_f1", "macro_auroc", "macro_auprc", "loss"):
        assert getattr(result, name).value == pytest.approx(getattr(alone, name).value)
        figure = getattr(result, name)
        assert figure.low < figure.value < figure.high
    assert (result.patients, result.examples, result.confusion) == (15, 900, alone.confusion)
    assert {c: item.patients for c, item in result.classes.items()} == {
        c: item.patients for c, item in alone.classes.items()
    }
    mean = np.mean([item.macro_auroc.value for item in results.values()])
    assert result.macro_auroc.value != pytest.approx(mean, abs=1e-6)


def test_pooled_resamples_add_the_sites_resamples_one_by_one() -> None:
    parts = {name: assessed(*examples(seed, 5), 5, seed=seed) for name, seed in (("a", 1), ("b", 2))}
    result = evaluation.pool_evaluations(
        TASK,
        *({name: item[i] for name, item in parts.items()} for i in range(3)),  # type: ignore[arg-type]
    )
    accuracy = [np.trace(sum(parts[site][2].confusion[i] for site in parts)) / 600 for i in range(40)]
    sizes = [sum(parts[site][2].confusion[i].sum() for site in parts) for i in range(40)]
    share = np.asarray(accuracy) * 600 / np.asarray(sizes)
    assert [result.accuracy.low, result.accuracy.high] == pytest.approx(ends(share, 10))


def test_pooled_intervals_need_every_sites_resamples() -> None:
    parts = {name: assessed(*examples(seed, 5), 5) for name, seed in (("a", 1), ("b", 2))}
    results, totals, drawn = ({name: item[i] for name, item in parts.items()} for i in range(3))
    result = evaluation.pool_evaluations(TASK, results, totals, {"a": drawn["a"]})  # type: ignore[arg-type,dict-item]
    assert result.accuracy.value is not None
    assert result.accuracy.low is None
    assert result.notes[0] == "no pooled intervals: not every site shares its resamples"


def test_an_evaluation_survives_json() -> None:
    result, _, _ = assessed(*examples(1, 6), 6)
    assert Evaluation.model_validate_json(result.model_dump_json()) == result


def test_a_site_with_one_test_patient_adds_a_note_on_narrow_intervals() -> None:
    parts = {"a": assessed(*examples(1, 5), 5), "lone": assessed(*examples(2, 1), 1)}
    results, totals, drawn = ({name: item[i] for name, item in parts.items()} for i in range(3))
    result = evaluation.pool_evaluations(TASK, results, totals, drawn)  # type: ignore[arg-type]
    assert "the intervals are too narrow: lone with one test patient adds no spread" in result.notes
    two = evaluation.pool_evaluations(TASK, *({"a": part["a"]} for part in (results, totals, drawn)))  # type: ignore[arg-type]
    ones = {name: assessed(*examples(seed, 1), 1) for name, seed in (("b", 3), ("c", 4))}
    alone = evaluation.pool_evaluations(
        TASK,
        *({name: item[i] for name, item in ones.items()} for i in range(3)),  # type: ignore[arg-type]
    )
    assert alone.accuracy.value is not None
    assert alone.accuracy.low is None
    assert any(note.startswith("no pooled intervals: half of the test patients") for note in alone.notes)
    assert not any("too narrow" in note for note in two.notes)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("metric", "utility", "defines no utility of an alarm"),
        ("threshold", "utility", "defines no utility of an alarm"),
        ("metric", "auroc", "use macro_auroc"),
        ("metric", "auprc", "use macro_auroc or macro_auprc"),
        ("threshold", "f1", "use likelier"),
        ("threshold", "youden", "use likelier"),
    ],
)
def test_a_metric_that_the_task_does_not_support_is_refused(key: str, value: str, said: str) -> None:
    wanted = EvaluationConfig.model_validate({key: value})
    with pytest.raises(ConfigError, match=rf"evaluation\.{key}={value}.*{said}"):
        evaluation.check_evaluation_fits_task(wanted, TASK)
    event = Task("e", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("a",), (), utility=True)
    evaluation.check_evaluation_fits_task(wanted, event)
    evaluation.check_evaluation_fits_task(EvaluationConfig(), TASK)


def test_intervals_stay_within_the_range_of_the_metric() -> None:
    """Coarser bins in resamples are mended by a shift, which must not carry a share below 0 or a Brier score of all
    classes (at most 2) down to 1."""
    rng = np.random.default_rng(5)
    group, truth = rng.integers(0, 8, 400), rng.integers(0, 3, 400)
    wrong = -8.0 * np.eye(3)[truth] + rng.normal(0, 2.0, (400, 3))  # nearly always sure of another class
    task = Task("t", "multiclass", ("A", "B", "C"), ("a", "b", "c"), 1, 96, 125.0, (), ("lead",))
    each = counts.count_predictions(wrong, truth, group, 8, 1024, coarse=COARSE_FACTOR)
    total = counts.count_predictions(wrong, truth, np.zeros(400, int), 1, 1024).total()
    drawn = evaluation.resample_patients(each, 300, rng)
    result = evaluation.build_evaluation(task, total, drawn, 8, [8, 8, 8], operating=(0.95,))
    assert result.brier is not None
    assert result.brier.value is not None
    assert result.brier.high is not None
    assert result.brier.high > result.brier.value > 1
    for item in result.classes.values():
        for figure in (item.auroc, item.auprc, item.operating[0].sensitivity, item.operating[0].specificity):
            assert figure.low is not None
            assert figure.high is not None
            assert 0 <= figure.low <= figure.high <= 1
