"""What a stranger read out of counts, thresholds, files and refusals, asked again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from client import requests
from client.gate.disclosure import ReleaseRules
from client.gate.guarded_settings import check_settings
from client.gate.register import Register, open_register
from client.policy import SitePolicy
from client.privacy.checks import check_private_training
from client.requests import handle
from client.site import find_replaced_share, load_site
from client.site_context import SiteContext
from common.errors import ConfigError, SiteError
from common.metrics.counts import choose_threshold
from common.requests import (
    DomainShiftRequest,
    FinalTestRequest,
    Method,
    ScalingRequest,
    TrainRequest,
    ValidateRequest,
)
from common.scaling import Scaling
from tests.client.gate.stranger import (
    PLAIN,
    ask_scaling,
    data_file,
    forget_data,
    make_config,
    make_hospital,
    seed_weights,
)
from tests.client.gate.stranger import train_first as train

RUN = "a" * 32


def test_two_histograms_do_not_give_the_people_between_their_centres(tmp_path: Path) -> None:
    context = make_hospital(tmp_path)
    base, config = ask_scaling(context), make_config(data__scaling="quantile")
    site = load_site(context, config)
    column = site.task.features.index("chol")
    values = site.train.features[:, column].astype(float)
    cuts = base.centre[column] + 4 * np.arange(-6, 7) + 0.5
    below = []
    for cut in cuts:
        centre = base.centre.copy()
        centre[column] = cut
        request = ScalingRequest(config, base=Scaling(centre, base.spread).to_bytes(), run_id=RUN)
        below.append(handle(context, request).sums["histogram"][column, :512].sum())
    truth = np.diff([(values < cut).sum() for cut in cuts])
    assert (np.diff(below) == truth).sum() <= 8  # by chance some are: with exact counts all 12 were
    request = ScalingRequest(config, base=Scaling(base.centre, base.spread).to_bytes(), run_id=RUN)
    again = [handle(context, request).sums["histogram"] for _ in range(2)]
    assert (again[0] == again[1]).all()  # asking again averages nothing away
    centre = base.centre.copy()
    centre[column] += 1e-9
    near = replace(request, base=Scaling(centre, base.spread).to_bytes())
    assert (handle(context, near).sums["histogram"] != again[0])[column].any()  # with the same errors: all the same


def test_a_recalibrated_threshold_is_what_the_released_table_gives(tmp_path: Path) -> None:
    """On exact counts it was the score of one validation patient."""
    context = make_hospital(tmp_path, patients=400)
    config = make_config(
        **PLAIN,
        data__scaling="standard",
        evaluation={"bins": 62, "bootstrap": 0, "threshold": "false_alarms", "recalibrate": ["threshold"]},
    )
    scaling = ask_scaling(context)
    weights = train(context, config, scaling, RUN)
    asked = {"round": 1, "weights": weights, "scaling": scaling.to_bytes(), "run_id": RUN}
    table = handle(context, ValidateRequest(config, **asked)).tables["all"]
    report = handle(context, FinalTestRequest(config, **asked)).report
    assert report.recalibration is not None
    sent = report.recalibration.methods["threshold"].threshold
    assert sent == pytest.approx(choose_threshold(table, "false_alarms", config.evaluation.false_alarms))


def test_a_run_that_asks_for_privacy_does_not_bring_back_true_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a site_policy, a private run saw outcomes as they are: 440 of 477 were read at an epsilon of 8."""
    seen: list[float] = []

    def note(context: SiteContext, request: TrainRequest) -> None:
        seen.append(find_replaced_share(context, request.config))
        raise SiteError("seen")

    monkeypatch.setattr(requests, "HANDLERS", {**requests.HANDLERS, TrainRequest: note})
    private = {"epsilon": 8.0, "clip": 1.0}
    asked: dict[str, object]
    for own, asked, share in (
        ({}, {}, 0.15),
        ({}, {"private_only": True}, 0.15),
        ({}, {"max_epsilon": 8.0}, 0.15),
        ({"private_only": True, "max_epsilon": 8.0}, {}, 0.0),
    ):
        context = make_hospital(tmp_path / str(len(seen)), **own)
        config = make_config(
            **PLAIN, privacy=private, data__scaling="none", federation={"choose": "last", "site_policy": asked}
        )
        start = seed_weights(config, load_site(context, config))
        with pytest.raises(SiteError, match="seen"):
            handle(context, TrainRequest(config, round=1, weights=start, run_id=RUN))
        assert seen[-1] == share


def test_more_tables_of_one_model_are_not_worth_more_answers(tmp_path: Path) -> None:
    """Where no personal model was kept, its tables were the federated one's again with errors of their own."""
    context = make_hospital(tmp_path, patients=400)
    evaluation = {"bins": 62, "bootstrap": 0, "recalibrate": []}
    config = make_config(**PLAIN, data__scaling="standard", evaluation=evaluation)
    scaling = ask_scaling(context)
    start, method = seed_weights(config, load_site(context, config)), Method(pull=0.1)
    asked = {"round": 1, "scaling": scaling.to_bytes(), "run_id": RUN, "method": method}
    weights = handle(context, TrainRequest(config, weights=start, **asked)).weights
    reply = handle(context, FinalTestRequest(config, weights=weights, **asked, state_round=9))
    assert (reply.tables["personal"].scores == reply.tables["all"].scores).all()
    assert (reply.tables["personal"].confusion == reply.tables["all"].confusion).all()


def test_an_anomaly_threshold_of_the_site_is_answered(tmp_path: Path) -> None:
    """It once failed with the numbers of validation and test patients in its text."""
    context = make_hospital(tmp_path, patients=400)
    config = make_config(
        **{**PLAIN, "training__lr": 0.01},
        model={"name": "tabular_autoencoder", "options": {"widths": [4], "latent": 1}},
        detection={"train_on": "all", "threshold": "site"},
        data__scaling="standard",
        evaluation={"bins": 62, "bootstrap": 0},
    )
    scaling = ask_scaling(context)
    weights = train(context, config, scaling, RUN)
    asked = {"round": 1, "weights": weights, "scaling": scaling.to_bytes(), "run_id": RUN}
    assert "all" in handle(context, FinalTestRequest(config, **asked)).report.evaluations


def test_bounds_of_ages_are_the_hospitals() -> None:
    check_settings(SitePolicy(), make_config(evaluation__subgroups={"age": [40.0, 65.0, 80.0]}))
    for age in ([35.0], [40.0, 45.0], [65.0, 66.0]):
        with pytest.raises(SiteError, match=r"evaluation\.subgroups\.age is this hospital's to allow"):
            check_settings(SitePolicy(), make_config(evaluation__subgroups={"age": age}))


def test_four_windows_do_not_give_the_people_of_a_fifth(tmp_path: Path) -> None:
    rules = ReleaseRules.from_register(SitePolicy(), Register(tmp_path / "r" / "register.sqlite", "north"), "h", RUN)
    names, right = [str(i) for i in range(300)], 0
    place = np.arange(300)
    for first in range(60, 240, 15):
        low, high, far = place < 30, place < 20 + 250, first
        windows = [place < far + 3, low & (place < 29), (place >= 7) & (place < far), (place >= 7) & (place < 29)]
        assert high.any()
        sizes = [int(rules.answer_sizes(names, window[None], "")[0]) for window in windows]
        right += sizes[0] - sizes[1] - sizes[2] + sizes[3] == 3
    assert right <= 8  # of 12; all were


def test_a_private_run_of_endless_steps_is_refused_at_once(tmp_path: Path) -> None:
    context = make_hospital(tmp_path)
    privacy = {"epsilon": 4.0, "delta": 1e-6, "sampling": 1e-9}
    config = make_config(**PLAIN, privacy=privacy, data__scaling="none", federation__choose="last")
    with pytest.raises(SiteError, match="private steps, above the 1,000,000"):
        check_private_training(context, load_site(context, make_config(data__scaling="none")), config)


def test_a_tiny_clipping_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.clip"):
        make_config(privacy={"epsilon": 1.0, "clip": 1e-29})


@pytest.mark.parametrize("run", ["../../x", "/tmp/x", "counts", "a/b", "x\0y", "é", "a" * 5000])
def test_a_runs_name_is_no_path(tmp_path: Path, run: str) -> None:
    context = make_hospital(tmp_path)
    load_site(context, make_config(**PLAIN))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SiteError, match="no plain name"):
        train(context, make_config(**PLAIN), run=run)
    with pytest.raises(SiteError, match="no plain name"):
        handle(context, ScalingRequest(make_config(), run_id=run))
    assert [path for path in sorted(tmp_path.rglob("*")) if not path.name.startswith("audit")] == before


def test_a_changed_record_is_not_told_by_the_difference_of_two_answers(tmp_path: Path) -> None:
    forget_data()
    context, config = make_hospital(tmp_path), make_config(data__scaling="standard")
    handle(context, ScalingRequest(config))
    file = data_file(context)
    old = file.read_text().splitlines()
    cells = old[20].split(",")
    cells[3] = "178.0"
    file.write_text("\n".join([*old[:20], ",".join(cells), *old[21:]]) + "\n")
    forget_data()
    for request in (ScalingRequest(config), DomainShiftRequest(config)):
        with pytest.raises(SiteError, match="have changed here") as refused:
            handle(context, request)
        assert "178" not in str(refused.value)
    explicit = make_config(data={"dataset": "heart_disease", "options": {"protocol": "explicit"}})
    with pytest.raises(SiteError, match="have changed here"):  # read in another way for the first time
        handle(context, ScalingRequest(explicit))
    file.write_text("\n".join(old) + "\n")
    forget_data()
    handle(context, ScalingRequest(config))
    handle(context, ScalingRequest(explicit))


@pytest.mark.parametrize("first", ["flamby", "explicit"])
def test_rows_that_only_one_protocol_uses_are_no_change(tmp_path: Path, first: str) -> None:
    """Hungary's rows were refused after a run under the other protocol, which leaves incomplete rows out."""
    forget_data()
    context = make_hospital(tmp_path, patients=400)
    file = data_file(context)
    rows = file.read_text().splitlines()
    complete = next(number for number, row in enumerate(rows) if number > 180 and "?" not in row)
    whole = [number for number in range(200, 400) if "?" not in rows[number]]
    rows[whole[1]], rows[98] = rows[whole[0]], rows[9]  # one person of several rows, under one protocol alone
    rows[98] = ",".join([*rows[98].split(",")[:-1], "1" if rows[9].endswith("0") else "0"])
    emptied = [",".join([*row.split(",")[:3], "?", *row.split(",")[4:]]) for row in rows[:180]]
    file.write_text("\n".join([*emptied, *rows[180:]]) + "\n")
    second = {"flamby": "explicit", "explicit": "flamby"}[first]
    for protocol in (first, second, first):
        config = make_config(data={"dataset": "heart_disease", "options": {"protocol": protocol}})
        forget_data()
        handle(context, ScalingRequest(config))
    third = {"dataset": "heart_disease", "options": {"protocol": "explicit", "tested": "complete"}}
    rows[complete] = ",".join([*rows[complete].split(",")[:3], "?", *rows[complete].split(",")[4:]])
    file.write_text("\n".join([*emptied, *rows[180:]]) + "\n")
    forget_data()
    with pytest.raises(SiteError, match="have changed here"):  # known to both, and no complete row any more
        handle(context, ScalingRequest(make_config(data=third)))


def test_people_who_moved_up_a_line_are_not_taken_for_others(tmp_path: Path) -> None:
    forget_data()
    context, config = make_hospital(tmp_path), make_config(**PLAIN)
    train(context, config)
    file = data_file(context)
    rows = file.read_text().splitlines()
    file.write_text("\n".join([*rows[:50], *rows[51:]]) + "\n")
    forget_data()
    with pytest.raises(SiteError, match="wardround site redraw"):
        train(context, config)
    open_register(context).redraw("heart_disease")
    forget_data()
    train(context, config)


def test_a_register_of_an_earlier_version_gets_its_table(tmp_path: Path) -> None:
    forget_data()
    context, config = make_hospital(tmp_path), make_config(**PLAIN)
    handle(context, ScalingRequest(config))
    path = open_register(context).path
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE contents")
    forget_data()
    handle(context, ScalingRequest(config))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM contents").fetchone()[0] == 120


def test_an_error_text_holds_no_sizes_of_arrays(tmp_path: Path) -> None:
    context, config = make_hospital(tmp_path), make_config(**PLAIN)
    weights = {"out.weight": np.zeros((3, 7), np.float32)}
    with pytest.raises(SiteError) as refused:
        handle(context, TrainRequest(config, round=1, weights=weights, run_id=RUN))
    assert "120" not in str(refused.value)


@pytest.mark.parametrize("kind", [ScalingRequest, DomainShiftRequest])
def test_sums_without_scaling_do_not_hold_an_outlier_that_others_lack(tmp_path: Path, kind: type) -> None:
    """Sums of a run that scaled nothing, minus those of another, were the one value that is far off."""
    rng = np.random.default_rng(0)
    usual = [f"{value:.1f},{i % 60},{i % 2}" for i, value in enumerate(rng.normal(50, 5, 200))]
    rows = ["lab,age,event", *usual, "8123.4,61,1", "8123.4,61,0"]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    inputs = [{"name": name, "kind": "number"} for name in ("lab", "age")]
    options = {"outcome": {"column": "event", "values": ["0", "1"], "classes": ["no", "yes"]}, "inputs": inputs}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump({"dataset": "table", **options}))
    context = SiteContext(SitePolicy(test_share=0.05, validation_share=0), site="north", data=tmp_path, state=tmp_path)
    config = make_config(data={"dataset": "table", "options": options})
    runs = [
        config.model_copy(update={"data": config.data.model_copy(update={"scaling": scaling})})
        for scaling in ("none", "standard")
    ]
    totals = [handle(context, kind(run)).sums for run in runs]
    assert all(np.array_equal(totals[0][name], totals[1][name]) for name in totals[0])
