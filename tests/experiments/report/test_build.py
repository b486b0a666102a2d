from __future__ import annotations

import json

import pytest

from common.errors import DataError
from experiments.report.build import build_report


def test_build_reads_the_whole_run(make_run) -> None:
    report = build_report(make_run())
    assert [site.name for site in report.sites] == ["north", "south", "west"]
    assert report.sites[1].counts["test"].classes == {"N": 48, "V": 12, "F": 0}
    assert (report.run.seconds, report.run.commit) == (5.0, "0123abc")
    assert (report.planned_rounds, report.chosen_round) == (3, 3)
    assert [line.number for line in report.rounds] == [1, 2, 3]
    names = [model.name for model in report.models]
    assert names == ["federated", "pooled", "local:north", "local:south", "local:west"]
    assert list(report.federated.without) == ["patient 7"]
    assert report.lost == {"west": "no answer within 9 s"}
    assert report.sites[2].lost == "no answer within 9 s"


def test_worst_is_the_lowest_figure(make_run) -> None:
    folder = make_run()
    raw = json.loads((folder / "federated.json").read_text())
    values = {site: item["macro_f1"]["value"] for site, item in raw["test"]["all"].items()}
    worst = build_report(folder).federated.worst
    assert (worst.site, worst.metric, worst.value) == ("south", "macro_f1", min(values.values()))


def test_worst_by_loss_is_the_highest(make_run) -> None:
    folder = make_run()
    text = (folder / "rounds.jsonl").read_text().replace('"macro_f1"}', '"loss"}')
    (folder / "rounds.jsonl").write_text(text)
    report = build_report(folder)
    assert report.metric == "loss"
    assert report.federated.worst.value == max(item.loss.value for item in report.federated.sites.values())


def test_interrupted_run_keeps_what_is_there(make_run) -> None:
    report = build_report(make_run(status="interrupted", rounds=2, planned=8))
    assert (report.run.status, report.planned_rounds, len(report.rounds)) == ("interrupted", 8, 2)
    assert report.models == ()
    assert len(report.sites) == 3


def test_run_without_outcome_is_built_from_its_events(make_run) -> None:
    folder = make_run(outcome=False, rounds=2, baselines=False)
    with (folder / "rounds.jsonl").open("a") as out:
        out.write('{"round": 3, "sites"')
    report = build_report(folder)
    assert (report.run.status, len(report.rounds), len(report.sites)) == ("interrupted", 2, 3)
    assert report.task["classes"] == ["N", "V", "F"]


def test_status_of_the_runner_has_priority(make_run) -> None:
    folder = make_run(status="failed")
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**about, "status": "interrupted"}))
    assert build_report(folder).run.status == "interrupted"


def test_made_up_data_bring_their_notice_even_if_the_run_forgot_it(make_run) -> None:
    assert [item.level for item in build_report(make_run(synthetic=True)).notices] == ["synthetic"]


def test_one_made_up_site_is_enough(make_run) -> None:
    folder = make_run()
    raw = json.loads((folder / "federated.json").read_text())
    raw["sites"]["west"]["synthetic"] = True
    (folder / "federated.json").write_text(json.dumps(raw))
    [notice] = build_report(folder).notices
    assert notice.level == "synthetic"
    assert notice.text.startswith("Some hospitals")


def test_beat_level_split_brings_its_notice(make_run) -> None:
    folder = make_run()
    raw = json.loads((folder / "federated.json").read_text())
    raw["sites"]["west"]["split"] = "beat-level"
    (folder / "federated.json").write_text(json.dumps(raw))
    assert [item.level for item in build_report(folder).notices] == ["leak"]


def test_not_a_number_becomes_missing(make_run) -> None:
    folder = make_run()
    text = (folder / "rounds.jsonl").read_text().replace('"macro_auroc": null', '"macro_auroc": NaN')
    (folder / "rounds.jsonl").write_text(text)
    assert build_report(folder).rounds[0].validation.macro_auroc is None


def test_folder_without_a_run_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"neither federated\.json nor events\.jsonl"):
        build_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("federated.json", "{", "cannot read .*federated.json"),
        ("federated.json", "[]", "must hold an object"),
        ("federated.json", '{"sites": {"a": {"counts": {"test": {}}}}}', "not as it should be"),
        ("rounds.jsonl", "{\n{}\n", "line 1 is damaged"),
    ],
)
def test_damaged_files_are_named(make_run, name, text, message) -> None:
    folder = make_run()
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message):
        build_report(folder)


def test_rounds_keep_a_selectable_metric_without_a_field_and_nothing_else(make_run, monkeypatch) -> None:
    monkeypatch.setattr("experiments.report.build.SELECTABLE", ("macro_f1", "new_metric"))
    folder = make_run()
    path = folder / "rounds.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["validation"] |= {"new_metric": 0.25, "unknown": 1.0}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    validation = build_report(folder).rounds[0].validation
    assert validation.new_metric == 0.25
    assert not hasattr(validation, "unknown")


def test_a_threshold_that_could_not_be_chosen_is_marked(make_run) -> None:
    folder = make_run()
    about, outcome = (json.loads((folder / name).read_text()) for name in ("run.json", "federated.json"))
    about["config"]["evaluation"]["threshold"] = "youden"
    (folder / "run.json").write_text(json.dumps(about))
    assert build_report(folder).notices == ()  # of three classes there is no threshold
    from experiments.report.notices import collect_selection_notices

    outcome["task"]["classes"] = ["quiet", "sepsis"]
    [notice] = collect_selection_notices(about, outcome | {"threshold": None}, [])
    assert notice.text.startswith("No threshold could be chosen by evaluation.threshold=youden")
    assert collect_selection_notices(about, outcome | {"threshold": 0.0}, []) == []
    about["config"]["evaluation"]["threshold"] = "likelier"
    assert collect_selection_notices(about, outcome | {"threshold": None, "pooled": {}}, []) == []


@pytest.mark.parametrize(
    ("events", "threshold", "warned"), [(20, None, True), (0, None, False), (60, None, False), (20, -2.0, False)]
)
def test_a_rare_event_without_a_chosen_threshold_is_marked(events, threshold, warned) -> None:
    from experiments.report.notices import collect_selection_notices

    pooled = {"all": {"confusion": [[180, 20], [events // 2, events - events // 2]]}}
    task = {"kind": "multiclass", "classes": ["quiet", "sepsis"]}
    outcome = {"task": task, "test": {"all": {}}, "pooled": pooled, "threshold": threshold}
    notices = collect_selection_notices({"config": {"evaluation": {"threshold": "auto"}}}, outcome, [])
    assert [notice.text.startswith("No threshold was chosen") for notice in notices] == [True] * warned
    assert all("9.1 of 100" in notice.text for notice in notices)


def test_a_round_that_could_not_be_chosen_is_marked(make_run) -> None:
    folder = make_run()
    about = json.loads((folder / "run.json").read_text())
    about["config"]["federation"]["choose"] = "best"
    (folder / "run.json").write_text(json.dumps(about))
    assert build_report(folder).notices == ()
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for line in lines:
        line["validation"]["macro_f1"] = None
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    [notice] = build_report(folder).notices
    assert notice.text.startswith("No round could be chosen by macro_f1, which has no value")


@pytest.mark.parametrize(
    ("losses", "falling"),
    [
        ([1.0 - 0.05 * i for i in range(10)], True),
        ([0.3 + 0.7 * 0.4**i for i in range(10)], False),
        ([0.5, 0.4, 0.3], False),  # too few rounds to say
        ([0.4] * 10, False),
        ([0.4 + 0.01 * i for i in range(10)], False),
        ([], False),
    ],
)
def test_a_loss_that_is_still_falling_is_said(losses: list[float], falling: bool) -> None:
    from experiments.report.notices import collect_selection_notices

    # two hospitals around the mean, weighted by their examples; one that trains privately reports no loss
    lines = [
        {"sites": {"a": {"train": {"loss": loss + 0.1, "examples": 10}},
                   "b": {"train": {"loss": loss - 0.05, "examples": 20}}, "c": {"train": {"examples": 99}}}}
        for loss in losses
    ]  # fmt: skip
    notices = collect_selection_notices({}, {}, lines)
    assert [item.text.startswith("The training loss was still falling at the last round") for item in notices] == (
        [True] if falling else []
    )


@pytest.mark.parametrize(
    ("chosen", "patience", "planned", "stopped"),
    [(2, 3, 100, True), (2, 4, 100, False), (2, 3, 5, False), (2, 0, 100, False), (4, 3, 100, False)],
)
def test_a_run_that_stopped_early_says_so(make_run, chosen: int, patience: int, planned: int, stopped: bool) -> None:
    from experiments.report.text.findings import describe_status, summarise_findings

    folder = make_run(rounds=5, planned=planned)
    about = json.loads((folder / "run.json").read_text())
    about["config"]["federation"]["patience"] = patience
    (folder / "run.json").write_text(json.dumps(about))
    outcome = json.loads((folder / "federated.json").read_text())
    (folder / "federated.json").write_text(json.dumps(outcome | {"chosen": chosen}))
    report = build_report(folder)
    assert report.stopped_early == stopped
    sentence = f"Training stopped because the {patience} rounds after it were no better, of at most {planned}."
    assert any(sentence in text for text in summarise_findings(report)) == stopped
    assert describe_status(report) == ("Complete: 5 rounds of at most 100" if stopped else "Complete: 5 rounds")
    # no advice to train longer where validation said that it does not help
    assert not stopped or not any("still falling" in notice.text for notice in report.notices)
    falling = [notice for notice in report.notices if "still falling" in notice.text]
    assert len(falling) == (5 - chosen < patience or not patience)
