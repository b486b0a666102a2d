"""What `data describe` tells of a data set, against counts made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.errors import DataError
from common.task import Task
from sites.cohort import Cohort, DataCard, Patient, Windows
from sites.datasets import Source, synthetic
from sites.disclosure import describe as module
from sites.disclosure.describe import describe_folder

CARD = DataCard("toy", "Toy", "rows", "ill or not", "two", "none", "nowhere", "nobody", "none")
TASK = Task("toy", "multiclass", ("well", "ill"), ("not ill", "ill"), 0, 0, 0.0, ("age", "chol"), (), missing=True)


def source(people: Sequence[Patient], task: Task, cohort: Any) -> Source:
    """Return a data set that is these people, and `cohort(ids)`."""
    made = SimpleNamespace(
        CARD=CARD,
        task=lambda options: task,
        patients=lambda *_: list(people),
        read=lambda folder, options, ids, store: cohort(ids),
    )
    return Source(made, None, Path("toy"), Path("store"))


def table(rows: Sequence[tuple[str, int, float, float, int]]) -> Source:
    """Return a data set of one row a person: hospital, ill or not, age, chol, sex."""
    people = [Patient(f"p{i}", f"p{i}", (1 - row[1], row[1]), site=row[0] or None) for i, row in enumerate(rows)]

    def cohort(ids: Sequence[str]) -> Cohort:
        own = [rows[int(name[1:])] for name in ids]
        return Cohort(
            TASK,
            np.zeros((len(own), 0, 0), np.float32),
            np.array([[row[2], row[3]] for row in own], np.float32),
            np.array([row[1] for row in own]),
            np.arange(len(own)),
            tuple(ids),
            tuple(ids),
            np.full(len(own), -1, np.int8),
            {
                "rows of the south": sum(row[0] == "south" for row in own),
                "of no sex": sum(row[4] < 0 for row in own),
            },
            age=np.array([row[2] for row in own], np.float32),
            sex=np.array([row[4] for row in own], np.int8),
        )

    return source(people, TASK, cohort)


NAN = float("nan")
ROWS = [
    *[("north", 0, 40.0 + i, 200.0, 0) for i in range(30)],
    *[("north", 1, 60.0 + i, NAN, 1) for i in range(20)],
    *[("south", 0, 50.0, NAN if i < 3 else 180.0, 1) for i in range(40)],
    *[("south", 1, 70.0, 190.0, -1) for i in range(3)],
]


def test_people_classes_age_sex_and_what_is_missing() -> None:
    result = describe_folder(table(ROWS))
    assert (result["patients"], result["recordings"], result["examples"]) == (93, 93, 93)
    assert result["sites"] == [
        {
            "site": "north",
            "patients": 50,
            "recordings": 50,
            "examples": 50,
            "classes": {"well": "hidden", "ill": "hidden"},
        },
        {"site": "south", "patients": 43, "recordings": 43, "examples": 43, "classes": {"well": "hidden", "ill": "<5"}},
    ]
    assert result["classes"]["ill"] == {"title": "ill", "patients": 23, "examples": 23}
    low, middle, high = np.quantile([row[2] for row in ROWS], (0.25, 0.5, 0.75))
    assert result["age"] == {"known": 93, "unknown": 0, "quartiles": [round(low), round(middle), round(high)]}
    assert result["sex"] == {"female": "hidden", "male": 60, "unknown": "<5"} or result["sex"]["unknown"] == "<5"
    assert sum(cell == "hidden" for cell in result["sex"].values()) == 1
    assert result["missing"] == [
        {"input": "chol", "share": 0.25, "never": 23, "sites": {"north": "hidden", "south": "<5"}}
    ]
    assert result["complete"] == 1
    assert result["excluded"] == {"rows of the south": 43, "of no sex": "<5"}
    assert result["card"]["licence"] == "none"
    assert result["task"]["features"] == 2
    json.dumps(result)


def test_the_share_of_missing_values_does_not_reveal_a_few() -> None:
    few = [("a", i % 2, 50.0, NAN if i < 3 else 1.0, 0) for i in range(60)]
    assert describe_folder(table(few))["missing"] == [
        {"input": "chol", "share": "hidden", "never": "<5", "sites": {"a": "<5"}}
    ]
    assert describe_folder(table(few), minimum=3)["missing"][0] == {
        "input": "chol",
        "share": 0.05,
        "never": 3,
        "sites": {"a": 3},
    }


def test_no_small_count_stands_anywhere() -> None:
    numbers = {int(text) for text in re.findall(r": (\d+)[,}]", json.dumps(describe_folder(table(ROWS))))}
    assert not numbers & {1, 2, 3, 4} - {1, 2}  # `complete` is 1, the task has 2 features
    everything = describe_folder(table(ROWS), minimum=1)
    assert everything["sites"][1]["classes"] == {"well": 40, "ill": 3}
    assert everything["missing"][0]["sites"] == {"north": 20, "south": 3}


def test_the_folder_of_one_hospital() -> None:
    result = describe_folder(table([("", *row[1:]) for row in ROWS]))
    assert [(line["site"], line["patients"]) for line in result["sites"]] == [("all", 93)]
    assert result["classes"]["well"]["patients"] == 70


@pytest.mark.parametrize(
    ("rows", "quartiles"),
    [
        ([("a", i % 2, 91.0 + i % 7, 1.0, 0) for i in range(20)], [">89"] * 3),
        ([("a", i % 2, 50.0, 1.0, 0) for i in range(19)], None),
        ([("a", i % 2, 50.0 if i else NAN, 1.0, 0) for i in range(21)], [50, 50, 50]),
    ],
)
def test_ages_are_reported_of_enough_people_and_not_above_89(rows: list[Any], quartiles: list[Any] | None) -> None:
    assert describe_folder(table(rows))["age"]["quartiles"] == quartiles


def beats(counts: dict[str, tuple[int, ...]], classes: int, kind: str = "multiclass") -> Source:
    """Return recordings, named after who is on them, with so many examples of each class."""
    titles = tuple("NSVF"[:classes])
    task = Task("beats", kind, titles, titles, 1, 2, 1.0, (), ("lead",))  # type: ignore[arg-type]
    people = [Patient(name, name.split("-")[0], counts[name]) for name in counts]

    def cohort(ids: Sequence[str]) -> Cohort:
        if kind == "multilabel":
            y = np.concatenate(
                [np.eye(classes, dtype=int)[[k for k, n in enumerate(counts[i]) if n]].sum(0)[None] for i in ids]
            )
            owner = np.arange(len(ids))
        else:
            y = np.concatenate([np.repeat(np.arange(classes), counts[name]) for name in ids])
            owner = np.repeat(np.arange(len(ids)), [sum(counts[name]) for name in ids])
        x = np.zeros((len(y), 1, 2), np.float32)
        persons = tuple(name.split("-")[0] for name in ids)
        none = np.full(len(y), -1, np.int8)
        return Cohort(task, x, np.zeros((len(y), 0), np.float32), y, owner, tuple(ids), persons, none)

    return source(people, task, cohort)


def test_people_are_counted_not_beats_nor_recordings() -> None:
    result = describe_folder(beats({"a-1": (50, 2), "a-2": (40, 0), **{f"b{i}": (9, 1) for i in range(9)}}, 2))
    assert (result["patients"], result["recordings"], result["examples"]) == (10, 11, 182)
    assert result["classes"]["N"] == {"title": "N", "patients": 10, "examples": 171}
    assert result["classes"]["S"] == {"title": "S", "patients": 10, "examples": 11}


def test_beats_do_not_give_away_what_the_people_of_a_class_are() -> None:
    counts = {f"p{i}": (100, 50 if i < 8 else 0, 7 if i < 6 else 0, 2 if i == 0 else 0) for i in range(12)}
    result = describe_folder(beats(counts, 4))
    assert result["classes"]["F"]["patients"] in ("<5", "hidden")
    assert [result["classes"][name]["examples"] for name in "NSVF"] == [1200, 400, "hidden", "hidden"]
    assert result["examples"] == 1200 + 400 + 42 + 2  # 44 beats of V and F: 6 people with V leave F anything


def test_people_without_an_example_are_reported() -> None:
    result = describe_folder(beats({**{f"p{i}": (3, 3) for i in range(9)}, **{f"q{i}": (0, 0) for i in range(6)}}, 2))
    assert result["patients"] == 9
    assert result["excluded"] == {"people without an example": 6}


def test_of_several_labels_a_person_may_have_none() -> None:
    counts = {f"p{i}": (1, 1 if i < 12 else 0) for i in range(20)} | {f"q{i}": (0, 0) for i in range(10)}
    result = describe_folder(beats(counts, 2, "multilabel"))
    assert (result["patients"], result["examples"]) == (30, 30)
    assert [result["classes"][name]["patients"] for name in "NS"] == [20, 12]


def test_hours_are_counted_once_though_windows_overlap() -> None:
    task = Task(
        "hours", "multiclass", ("no", "yes"), ("no", "yes"), 2, 4, 1 / 3600, (), ("pulse", "lactate"), missing=True
    )
    people = 10
    hours = np.full((people * 6, 2), 80, np.float32)
    hours[::2, 1] = np.nan  # every other hour, of everyone
    hours[: 5 * 6, 1] = np.nan  # never, of the first five
    first = np.repeat(np.arange(people) * 6, 6)

    def cohort(ids: Sequence[str]) -> Cohort:
        own = np.concatenate([np.arange(6) + 6 * int(name[1:]) for name in ids])
        x = Windows(hours, own, first[own], 4)
        owner = np.repeat(np.arange(len(ids)), 6)
        y = np.tile([0, 0, 0, 1, 1, 1], len(ids))
        features = np.zeros((len(y), 0), np.float32)
        return Cohort(task, x, features, y, owner, tuple(ids), tuple(ids), np.full(len(y), -1, np.int8))

    result = describe_folder(source([Patient(f"p{i}", f"p{i}", (3, 3)) for i in range(people)], task, cohort))
    assert result["missing"] == [{"input": "lactate", "share": 0.75, "never": 5, "sites": {"all": 5}}]


def test_block_by_block_is_the_same_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = describe_folder(table(ROWS))
    observed: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "BLOCK_BYTES", 100)
    parts = describe_folder(table(ROWS), on_progress=lambda done, total: observed.append((done, total)))
    assert len(observed) > 5
    assert observed[-1] == (93, 93)
    assert parts == whole


def test_generated_data_say_so(hospitals: Path, store: Path) -> None:
    options = synthetic.Options()
    made = Source(replace_card(synthetic), options, hospitals, store / "synthetic")
    result = describe_folder(made)
    assert result["synthetic"]
    assert [line["site"] for line in result["sites"]] == ["north", "south"]
    assert [line["patients"] for line in result["sites"]] == ["<5", "<5"]
    assert result["patients"] == "hidden"  # 6: none of the two can be 1
    assert describe_folder(made, minimum=1)["patients"] == 6


def replace_card(original: Any) -> Any:
    """Return a data set that does not say in its card that it is generated: its files do."""
    return SimpleNamespace(
        CARD=replace(original.CARD, synthetic=False), task=original.task, patients=original.patients, read=original.read
    )


def test_nobody_is_one_clear_line() -> None:
    with pytest.raises(DataError, match="toy holds no patients"):
        describe_folder(source([], TASK, None))


def test_hospitals_stand_in_the_order_of_their_numbers() -> None:
    result = describe_folder(table([(f"h{n}", i % 2, 50.0, 1.0, 0) for n in (10, 9, 100) for i in range(12)]))
    assert [line["site"] for line in result["sites"]] == ["h9", "h10", "h100"]
