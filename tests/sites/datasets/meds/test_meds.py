"""MEDS extracts: the published schema, inputs against a slow loop, and what a coordinator may not change."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import meds as standard
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from common.errors import ConfigError, DataError
from common.settings import validate_settings
from sites.datasets import meds
from sites.datasets.meds import simulate
from sites.datasets.meds.description import Description, load_description, matches
from sites.datasets.meds.guess import guess_description, is_extract
from sites.datasets.meds.write import render_description

HOUR = 3600 * 10**6


@pytest.fixture(scope="module")
def extract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meds") / "extract"
    simulate.generate(folder, hospitals=2, patients=40, seed=3)
    return folder


def test_a_generated_extract_has_the_published_schema(extract: Path) -> None:
    for shard in sorted((extract / "data").glob("*.parquet")):
        standard.DataSchema.validate(parquet.read_table(shard))
    standard.SubjectSplitSchema.validate(parquet.read_table(extract / standard.subject_splits_filepath))
    standard.CodeMetadataSchema.validate(parquet.read_table(extract / standard.code_metadata_filepath))


Event = tuple[int, int | None, str, float | None]


def read_plainly(extract: Path) -> dict[int, list[Event]]:
    """Return every person's events, without any of our code."""
    people: dict[int, list[Event]] = {}
    for shard in sorted((extract / "data").glob("*.parquet")):
        for row in parquet.read_table(shard).to_pylist():
            time = row["time"]
            at = (
                None
                if time is None
                else round((time - datetime.datetime(1970, 1, 1)) / datetime.timedelta(microseconds=1))
            )
            people.setdefault(row["subject_id"], []).append((row["subject_id"], at, row["code"], row["numeric_value"]))
    return people


def loop_over_events(events: list[Event], options: Description) -> tuple[int, list[float]] | None:
    """Return the class and the inputs of a person's first admission by plain loops, or None where it is left out."""
    index, outcome = options.index, options.outcome
    assert index is not None
    start = next(at for _, at, code, _ in events if at is not None and matches(index.codes, code))
    time = start + round(index.after_hours * HOUR)
    deaths = [at for _, at, code, _ in events if at is not None and code in outcome.codes and at >= start]
    if deaths and deaths[0] <= time:
        return None
    if max(at for _, at, _, _ in events if at is not None) < time:
        return None
    y = int(bool(deaths) and deaths[0] - time <= (outcome.within_hours or 1e9) * HOUR)
    born = next(at for _, at, code, _ in events if code == "MEDS_BIRTH" and at is not None)
    codes = {code for _, _, code, _ in events}
    inputs = [(time - born) / HOUR / 24 / 365.25, float("GENDER//M" in codes)]
    for item in options.inputs:
        own = [
            (at, value)
            for _, at, code, value in events
            if matches(item.patterns, code) and at is not None and time - round(24 * HOUR) < at <= time
        ]
        values = [v for _, v in own if v is not None and (item.range is None or item.range[0] <= v <= item.range[1])]
        plain = {
            "count": float(len(own)),
            "last": values[-1] if values else np.nan,
            "mean": float(np.mean(values)) if values else np.nan,
        }
        inputs += [plain[summary] for summary in item.summaries]
    return y, inputs


def test_inputs_and_labels_are_those_of_a_loop_over_the_events(extract: Path, tmp_path: Path) -> None:
    options = load_description(extract / "meds.yaml")
    expected = {str(who): loop_over_events(events, options) for who, events in read_plainly(extract).items()}
    usable = {who: item for who, item in expected.items() if item is not None}
    assert {item.id for item in meds.patients(extract, options, tmp_path)} == set(usable)
    cohort = meds.read(extract, options, list(usable), tmp_path)
    assert cohort.y.tolist() == [y for y, _ in usable.values()]
    np.testing.assert_allclose(cohort.features, [inputs for _, inputs in usable.values()], rtol=1e-5)
    assert sum(cohort.excluded.values()) >= len(expected) - len(usable)
    splits = {
        row["subject_id"]: row["split"]
        for row in parquet.read_table(extract / "metadata" / "subject_splits.parquet").to_pylist()
    }
    names = {"train": "train", "tuning": "validation", "held_out": "test"}
    for item in meds.patients(extract, options, tmp_path):
        assert item.published == names[splits[int(item.id)]]
        assert item.site == f"hospital-{1 + (int(item.id) > 40)}"


def write_events(folder: Path, rows: list[tuple[int, float | None, str, float | None]]) -> None:
    """Write events whose times are hours."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    columns = list(zip(*rows, strict=True))
    times = [None if hour is None else round(hour * HOUR) for hour in columns[1]]
    table = pa.table(
        {
            "subject_id": pa.array(columns[0], pa.int64()),
            "time": pa.array(times, pa.int64()).cast(pa.timestamp("us")),
            "code": pa.array(columns[2], pa.string()),
            "numeric_value": pa.array(columns[3], pa.float32()),
        }
    )
    parquet.write_table(table, folder / "data" / "0.parquet")


def describe(**changes: Any) -> Description:
    base: dict[str, Any] = {
        "read": {"min_people": 1},
        "index": {"codes": ["ADM"], "after_hours": 24},
        "outcome": {"codes": ["DIED"], "within_hours": 48},
        "birth": None,
        "inputs": [{"name": "LAB", "summaries": ["count", "last", "mean"]}],
    }
    return validate_settings(Description, base | changes, "test")


EVENTS: list[tuple[int, float | None, str, float | None]] = [
    (1, 0.0, "ADM", None), (1, 0.0, "LAB", 9.0), (1, 1.0, "LAB", 1.0), (1, 24.0, "LAB", 3.0), (1, 24.5, "LAB", 99.0),
    (1, 72.0, "DIED", None),
    (2, 5.0, "ADM", None), (2, 80.0, "LAB", 5.0), (2, 78.0, "DIED", None),
    (3, 0.0, "ADM", None), (3, 10.0, "DIED", None), (3, 60.0, "LAB", 1.0),
    (4, 0.0, "ADM", None), (4, 20.0, "LAB", 1.0),
]  # fmt: skip


def test_the_window_ends_at_the_prediction_and_begins_after_its_length(tmp_path: Path) -> None:
    """Person 1: of hours 0 (not after the start), 1, 24 (at the prediction), 24.5 (after it), two count."""
    write_events(tmp_path, EVENTS)
    cohort = meds.read(tmp_path, describe(), ["1", "2"], tmp_path / "store")
    np.testing.assert_allclose(cohort.features, [[2, 3, 2], [0, np.nan, np.nan]])
    assert cohort.y.tolist() == [1, 0]  # 48 hours after the prediction; 49 hours
    assert cohort.excluded == {
        "examples whose outcome was already there at the prediction": 1,
        "examples whose record ends before the prediction": 1,
    }
    every = meds.read(tmp_path, describe(window_hours=None), ["1"], tmp_path / "store")
    np.testing.assert_allclose(every.features, [[3, 3, 13 / 3]])


def test_an_input_of_few_people_is_read_as_never_recorded(tmp_path: Path) -> None:
    write_events(tmp_path, EVENTS)
    cohort = meds.read(tmp_path, describe(read={"min_people": 5}), ["1"], tmp_path / "store")
    np.testing.assert_array_equal(cohort.features, [[0, np.nan, np.nan]])
    assert cohort.excluded["inputs of fewer than 5 people, read as never recorded"] == 1


def test_labels_say_who_when_and_what(tmp_path: Path) -> None:
    write_events(tmp_path, EVENTS)
    labels = pa.table(
        {
            "subject_id": pa.array([1, 1, 2, 9], pa.int64()),
            "prediction_time": pa.array([2 * HOUR, 25 * HOUR, 81 * HOUR, 0], pa.int64()).cast(pa.timestamp("us")),
            "boolean_value": [True, False, True, True],
        }
    )
    standard.LabelSchema.validate(labels)
    (tmp_path / "labels").mkdir()
    parquet.write_table(labels, tmp_path / "labels" / "a.parquet")
    options = describe(read={"min_people": 1, "labels": "labels"}, index=None, outcome={"classes": ["no", "yes"]})
    cohort = meds.read(tmp_path, options, ["2", "1"], tmp_path / "store")
    assert cohort.y.tolist() == [1, 1, 0]
    np.testing.assert_allclose(cohort.features[:, 1], [5, 1, 99])
    assert cohort.excluded == {"labels of people without an event": 1}
    with pytest.raises(DataError, match="no code is recorded for 20 people: too few to learn from"):
        guess_description(tmp_path)


def test_a_guessed_description_reads_back(extract: Path, tmp_path: Path) -> None:
    assert is_extract(extract)
    assert not is_extract(tmp_path)
    guessed, codes = guess_description(extract)
    file = tmp_path / "meds.yaml"
    file.write_text(render_description(guessed, codes))
    assert load_description(file) == guessed
    assert guessed.read.hospital == "hospital"
    assert guessed.outcome.codes == ("MEDS_DEATH",)
    names = {item.name for item in guessed.inputs}
    assert "LAB//sodium//mmol/L" in names
    assert not names & {"MEDS_DEATH", "MEDS_BIRTH", "GENDER//F", simulate.ADMISSION}
    with pytest.raises(DataError, match="no event has the code STROKE"):
        guess_description(extract, outcome="STROKE")


def test_only_codes_that_are_recorded_before_a_prediction_are_proposed(extract: Path) -> None:
    guessed, codes = guess_description(extract)
    assert codes.people[simulate.DISCHARGE] >= 20  # common, and always after the prediction
    assert simulate.DISCHARGE not in {pattern for item in guessed.inputs for pattern in item.patterns}
    people = read_plainly(extract).values()
    for item in guessed.inputs:
        alone = guessed.model_copy(update={"inputs": (item,)})
        rows = [row for events in people if (row := loop_over_events(events, alone)) is not None]
        assert sum(any(value > 0 for value in inputs[2:]) for _, inputs in rows) >= 5
    (note,) = [each.text for each in codes.findings if "are no inputs" in each.text]
    assert simulate.DISCHARGE in note


def test_an_extract_without_an_example_is_described_with_all_its_codes(tmp_path: Path) -> None:
    write_events(tmp_path, [(i, hour, code, None) for i in range(30)
                            for hour, code in ((0.0, "ICU_ADMISSION"), (1.0, "MEDS_DEATH"), (2.0, "A"))])  # fmt: skip
    guessed, codes = guess_description(tmp_path)
    assert [item.name for item in guessed.inputs] == ["A"]
    assert any("no example (30 examples whose outcome was already there" in each.text for each in codes.findings)


def test_a_hospitals_own_description_holds(extract: Path, tmp_path: Path) -> None:
    options = load_description(extract / "meds.yaml")
    with pytest.raises(ConfigError, match=r"no meds.yaml: a run reads only the codes"):
        meds.check_site_folder(tmp_path, options)
    meds.check_site_folder(extract, options)
    meds.check_site_folder(extract, options.model_copy(update={"inputs": options.inputs[:1]}))
    extra = options.inputs[0].model_copy(update={"name": "HIV"})
    with pytest.raises(ConfigError, match="has no input HIV"):
        meds.check_site_folder(extract, options.model_copy(update={"inputs": (extra,)}))
    other = options.inputs[0].model_copy(update={"codes": ("DIAGNOSIS//HIV",)})
    with pytest.raises(ConfigError, match=r"in inputs.creatinine.codes"):
        meds.check_site_folder(extract, options.model_copy(update={"inputs": (other,)}))
    with pytest.raises(ConfigError, match="in synthetic"):
        meds.check_site_folder(extract, options.model_copy(update={"synthetic": not options.synthetic}))
    with pytest.raises(ConfigError, match="in window_hours"):
        meds.check_site_folder(extract, options.model_copy(update={"window_hours": 1.0}))
    loose = options.model_copy(update={"read": options.read.model_copy(update={"min_people": 1, "data": "../other"})})
    meds.check_site_folder(extract, loose)
    assert meds.apply_own_reading(extract, loose).read == options.read  # its own `read` holds, not the run's


def test_what_is_no_extract_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no Parquet file of MEDS events"):
        meds.patients(tmp_path, describe(), tmp_path / "store")
    (tmp_path / "data").mkdir()
    parquet.write_table(pa.table({"subject_id": [1], "code": ["A"]}), tmp_path / "data" / "0.parquet")
    with pytest.raises(DataError, match=r"0.parquet: no column time: not in the form of MEDS"):
        meds.patients(tmp_path, describe(), tmp_path / "store")
    (tmp_path / "data" / "0.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read: not in the form of MEDS"):
        meds.patients(tmp_path, describe(), tmp_path / "store")
    write_events(tmp_path, EVENTS)
    (tmp_path / "data" / "1.parquet").write_bytes((tmp_path / "data" / "0.parquet").read_bytes())
    with pytest.raises(DataError, match=r"1.parquet: a subject of another file is here too"):
        meds.patients(tmp_path, describe(), tmp_path / "store")
    with pytest.raises(ConfigError, match="leaves the data folder"):
        meds.patients(tmp_path, describe(read={"data": "../data"}), tmp_path / "store")


def test_scoring_needs_no_outcome(tmp_path: Path) -> None:
    from sites.datasets import Source

    write_events(tmp_path, [event for event in EVENTS if event[2] != "DIED"])
    (rows,) = meds.unlabelled_rows(Source(meds, describe(), tmp_path, tmp_path / "store"))
    assert rows.columns["record"].tolist() == ["1", "2", "3", "4"]
    assert rows.columns["prediction_time"][0] == "1970-01-02T00:00:00.000000"
    np.testing.assert_allclose(rows.cohort.features[0], [2, 3, 2])
