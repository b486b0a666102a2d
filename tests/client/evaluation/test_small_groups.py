"""Groups of patients, and what of them may leave: against the slow obvious count, and by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.evaluation import small_groups
from client.evaluation.predictions import build_predictor, count_predictions, predict_and_count
from client.policy import SitePolicy
from client.requests import handle
from client.site import Site
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from common import messages, models
from common.config import RunConfig
from common.errors import SiteError
from common.metrics.table_names import ALL_PATIENTS, GROUP_PREFIX
from common.sections.evaluation import SubgroupsConfig
from server.phases.test import combine_evaluations
from sites.cohort import Cohort
from tests import tiny
from tests.wire import build_request

WANTED = SubgroupsConfig(sex=True, age=(40.0, 65.0), columns={"rr": (0.5, 1.5)})


def people(seed: int, sexes: list[int], ages: list[float], each: int = 6) -> Cohort:
    cohort = tiny.cohort(seed, people=len(sexes), each=each)
    return replace(cohort, sex=np.asarray(sexes, np.int8), age=np.asarray(ages, np.float32))


def cells(cohort: Cohort, minimum: int, wanted: SubgroupsConfig = WANTED) -> small_groups.ReleasableTables:
    return small_groups.select_releasable_tables(cohort, wanted, minimum, ALL_PATIENTS, GROUP_PREFIX)


def test_every_person_is_in_one_group_of_each_attribute() -> None:
    cohort = people(1, [0, 1, 1, -1, 0, 1], [39.9, 40, 64, 65, np.nan, 90])
    result = cells(cohort, 1)
    held = {name: sorted(set(cohort.patient[rows].tolist())) for name, rows in result.rows.items()}
    assert held["group sex=female"] == [0, 4]
    assert held["group sex=male"] == [1, 2, 5]
    assert held["group sex=unknown"] == [3]
    assert held["group age=under 40"] == [0]
    assert held["group age=40 to under 65"] == [1, 2]
    assert held["group age=65 and over"] == [3, 5]
    assert held["group age=unknown"] == [4]
    assert held["all"] == list(range(6))
    for band, low, high in (("under 0.5", -9, 0.5), ("0.5 to under 1.5", 0.5, 1.5), ("1.5 and over", 1.5, 9)):
        medians = [np.median(cohort.features[cohort.patient == i, 0]) for i in range(6)]
        assert held.get(f"group rr={band}", []) == [i for i, m in enumerate(medians) if low <= m < high]
    assert not result.suppressed


def test_recordings_of_one_person_are_in_one_group() -> None:
    cohort = replace(people(1, [0, 1, 1], [30, 50, 50]), persons=("a", "a", "b"))
    rows = cells(cohort, 1).rows
    assert set(cohort.patient[rows["group sex=female"]].tolist()) == {0, 1}
    assert set(cohort.patient[rows["group age=40 to under 65"]].tolist()) == {2}


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(SiteError, match="columns: weight is not a feature of tiny"):
        cells(tiny.cohort(1), 1, SubgroupsConfig(columns={"weight": (1.0,)}))


def test_a_small_group_suppresses_the_next_smallest_too() -> None:
    ages = [30.0] * 3 + [50.0] * 7 + [70.0] * 12
    result = cells(people(2, [0] * 22, ages), 5, SubgroupsConfig(sex=True, age=(40.0, 65.0)))
    assert set(result.suppressed) == {"group age=under 40", "group age=40 to under 65"}
    assert {"all", "group age=65 and over", "group sex=female"} == set(result.rows)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, -1]), st.sampled_from([30.0, 50.0, 70.0])), min_size=1, max_size=30))
def test_no_suppressed_count_can_be_computed_from_the_reported_ones(who: list[tuple[int, float]]) -> None:
    """The total minus the reported groups is empty, or of at least `minimum` patients."""
    minimum = 4
    cohort = people(3, [sex for sex, _ in who], [age for _, age in who], each=5)
    wanted = SubgroupsConfig(sex=True, age=(40.0, 65.0))
    result = cells(cohort, minimum, wanted)

    def patients(rows: np.ndarray, c: int | None = None) -> set[int]:
        return set(cohort.patient[rows if c is None else rows & (cohort.y == c)].tolist())

    if "all" in result.suppressed:
        assert not result.rows
        return
    for name, rows in result.rows.items():
        reported = [c for c in range(3) if not result.classes[name][c]]
        assert all(not patients(rows, c) or len(patients(rows, c)) >= minimum for c in reported)
        assert not patients(rows) or len(patients(rows)) >= minimum
        assert not any(patients(rows, c) for c in range(3) if c not in reported)
    for attribute in ("sex", "age"):
        names = [name for name in result.rows if name.startswith(f"group {attribute}=")]
        for c in range(3):
            printed = [name for name in names if not result.classes[name][c]]
            if result.classes["all"][c]:
                assert not printed
                continue
            rest = patients(result.rows["all"], c).difference(*(patients(result.rows[name], c) for name in printed))
            assert not rest or len(rest) >= minimum


def run(**sections: Any) -> RunConfig:
    return tiny.run_config(evaluation__subgroups=WANTED.model_dump(), **sections)


@pytest.fixture(name="site")
def _site(monkeypatch: pytest.MonkeyPatch) -> Site:
    sexes, ages = [0, 1] * 6, list(itertools.islice(itertools.cycle([30.0, 50.0, 70.0]), 12))
    result = tiny.site("north", 1, people(4, sexes, ages), parts=[2] * 10 + [0, 1])
    monkeypatch.setattr("client.site.read_site", lambda context, config: result)
    return result


def request_reply(site: Site, config: RunConfig, **policy: Any) -> messages.Reply:
    model = models.build_model(site.task, config.model, 1)
    context = SiteContext(SitePolicy(**{"min_cell_patients": 1, **policy}), site=site.name)
    return handle(context, build_request("test", config, 1, copy_weights(model)))


def test_results_of_a_group_are_those_of_its_rows(site: Site) -> None:
    config = run()
    reply = request_reply(site, config, share_resamples=True)
    predict = build_predictor(models.build_model(site.task, config.model, 1), config)
    everyone = reply.tables["all/resampled"].confusion
    for attribute in ("sex", "age", "rr"):
        names = [name for name in reply.report.to_dict()["evaluations"] if name.startswith(f"group {attribute}=")]
        np.testing.assert_array_equal(
            sum(reply.tables[name].confusion for name in names), reply.tables["all"].confusion
        )
        np.testing.assert_array_equal(sum(reply.tables[name + "/resampled"].confusion for name in names), everyone)
    women = site.test.take(np.isin(site.test.patient, np.flatnonzero(site.test.sex == 0)))
    alone = predict_and_count(predict, women, config).total
    np.testing.assert_array_equal(reply.tables["group sex=female"].scores, alone.scores)
    item = reply.report.to_dict()["evaluations"]["group sex=female"]
    assert (item["patients"], item["examples"]) == (women.people(), len(women.y))
    assert item["accuracy"]["low"] is not None


def test_suppressed_tables_are_named_but_not_sent(site: Site) -> None:
    reply = request_reply(site, run(), min_cell_patients=4)
    ages = {"group age=40 to under 65", "group age=65 and over"}  # of 3 patients each, next to one of 4
    assert {name for name in reply.report.to_dict()["suppressed"] if "age" in name} == ages
    assert not set(reply.report.to_dict()["suppressed"]) & {name.partition("/")[0] for name in reply.tables}
    assert {name for name in reply.tables if "age" in name} == {"group age=under 40"}
    by_table, pooled = combine_evaluations(site.task, {"north": reply, "south": request_reply(site, run())})
    assert set(by_table["group age=65 and over"]) == {"south"}
    assert "suppressed at, and so without, north (fewer than 4 patients)" in pooled["group age=65 and over"].notes
    with pytest.raises(SiteError, match="too few people"):
        handle(
            SiteContext(SitePolicy(min_cell_patients=4), site="north"),
            build_request("validate", run(), 1, copy_weights(models.build_model(site.task, run().model, 1))),
        )


def test_by_default_groups_of_fewer_than_five_are_suppressed(site: Site) -> None:
    reply = request_reply(site, run(), **SitePolicy().model_dump(include={"min_cell_patients"}))
    given = [item for name, item in reply.report.to_dict()["evaluations"].items() if name.startswith("group ")]
    assert given
    assert all(item["patients"] >= 5 for item in given)
    assert set(reply.report.to_dict()["suppressed"].values()) == {5}  # age bands have three and four people


def test_a_class_of_too_few_patients_is_suppressed_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = tiny.cohort(4, people=10, classes=(0, 1))
    y = cohort.y.copy()
    y[cohort.patient < 2] = 2
    site = tiny.site("north", 1, replace(cohort, y=y), parts=[2] * 10)
    monkeypatch.setattr("client.site.read_site", lambda context, config: site)
    config = tiny.run_config()
    reply = request_reply(site, config, min_cell_patients=3)
    item = reply.report.to_dict()["evaluations"]["all"]
    assert item["suppressed"] == {"F": 3}
    assert item["examples"] == int((y < 2).sum()) == reply.tables["all"].confusion.sum()
    assert item["classes"]["F"]["patients"] == item["classes"]["F"]["examples"] == 0
    hello = handle(SiteContext(SitePolicy(min_cell_patients=3), site="north"), build_request("handshake", config))
    assert hello.report.to_dict()["counts"]["test"]["classes"] == [int((y == 0).sum()), int((y == 1).sum()), None]
    assert hello.report.to_dict()["counts"]["test"]["examples"] == int((y < 2).sum())
    _, pooled = combine_evaluations(site.task, {"north": reply})
    assert pooled["all"].suppressed == {"F": 3}
    assert any("class F is suppressed at" in note for note in pooled["all"].notes)
    small = handle(SiteContext(SitePolicy(min_cell_patients=11), site="north"), build_request("handshake", config))
    assert small.report.to_dict()["counts"]["test"] == {
        "patients": 0,
        "examples": 0,
        "classes": [None] * 3,
        "suppressed": 11,
    }


def test_leaving_out_fewer_patients_than_the_minimum_is_refused(site: Site) -> None:
    config = run(evaluation__without={"two": list(site.test.patients[:2]), "four": list(site.test.patients[:4])})
    reply = request_reply(site, config, share_resamples=True, min_cell_patients=3)
    assert reply.report.to_dict()["suppressed"]["without two"] == 3
    assert "without two" not in reply.tables
    assert "without four" in reply.tables


def test_multilabel_hidden_labels_are_zero() -> None:
    rng = np.random.default_rng(2)
    task = replace(tiny.TASK, kind="multilabel")
    base = tiny.cohort(3, people=8)
    y = (rng.random((len(base.y), 3)) < 0.4).astype(np.int64)
    y[:, 2] = base.patient == 0
    cohort = replace(base, task=task, y=y)
    may = cells(cohort, 3, SubgroupsConfig())
    assert may.classes["all"].tolist() == [False, False, True]
    logits = rng.normal(size=y.shape).astype(np.float32)
    config = tiny.run_config()
    result = count_predictions(logits, cohort, config, rows=may.rows["all"], hidden=may.classes["all"])
    whole = count_predictions(logits, cohort, config)
    np.testing.assert_array_equal(result.total.confusion[:2], whole.total.confusion[:2])
    assert not result.total.confusion[2].any()
    assert not result.people.scores[:, 2].any()
    assert float(result.total.loss) == pytest.approx(
        np.logaddexp(0, np.where(y, -logits, logits))[:, :2].sum(), rel=1e-6
    )
