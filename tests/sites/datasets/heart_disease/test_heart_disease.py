"""UCI Heart Disease: rows computed by hand, and splits of both protocols."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from common import config
from common.errors import DataError
from sites import datasets
from sites.datasets import Source, heart_disease
from sites.datasets.heart_disease import Options
from sites.datasets.heart_disease.rows import ZERO_RETAINED
from tests.sites.datasets.heart_disease.uci_rows import (
    EXPLICIT,
    EXPLICIT_FULL,
    EXPLICIT_SPARSE,
    FLAMBY,
    FLAMBY_FULL,
    FULL,
    SPARSE,
    everyone,
    f32,
    rows,
    written,
)


def test_rows_by_hand_in_both_protocols(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", FULL, "", SPARSE)
    one = everyone(folder, FLAMBY, tmp_path)
    assert one.patients == ("north-0001",)
    np.testing.assert_array_equal(one.features, f32([FLAMBY_FULL]))
    assert one.excluded == {"rows with a missing value": 1}
    assert not one.task.missing
    both = everyone(folder, EXPLICIT, tmp_path)
    assert both.patients == ("north-0001", "north-0003")
    np.testing.assert_array_equal(both.features, f32([EXPLICIT_FULL, EXPLICIT_SPARSE]))
    assert both.task.missing
    assert both.task.units
    assert both.task.binary
    assert both.y.tolist() == [0, 1]
    assert both.age is not None
    assert both.sex is not None
    assert (both.age.tolist(), both.sex.tolist()) == ([63, 35], [1, 0])
    assert both.excluded == {"chol of 0, read as not measured": 1}
    assert not both.synthetic


def test_names_of_the_inputs_stand_in_the_order_of_their_values() -> None:
    named = dict(zip(heart_disease.task(EXPLICIT).features, EXPLICIT_SPARSE, strict=True))
    ones = {name for name, value in named.items() if value == 1}
    assert ones == {"exang", "cp=4", "restecg=0", "thal=7", "thalach measured", "exang measured"}
    named = dict(zip(heart_disease.task(FLAMBY).features, FLAMBY_FULL, strict=True))
    assert {name: value for name, value in named.items() if value} == {
        "age": 63, "sex": 1, "trestbps": 145, "chol": 233, "fbs": 1, "thalach": 150, "oldpeak": 2.3, "restecg=2": 1,
    }  # fmt: skip


def test_a_zero_is_a_value_to_flamby_and_not_measured_to_the_other(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", "50,1,1,0,0,0,0,0,0,0,1,0,3,1", FULL)
    assert everyone(folder, FLAMBY, tmp_path).features[0, [2, 3, 5, 7]].tolist() == [0, 0, 0, 0]
    result = everyone(folder, EXPLICIT, tmp_path)
    values = dict(zip(result.task.features, result.features[0].tolist(), strict=True))
    assert [name for name, value in values.items() if np.isnan(value)] == ["trestbps", "chol", "thalach"]
    assert values["oldpeak"] == values["ca"] == values["fbs"] == 0
    assert [values[f"{name} measured"] for name in ("trestbps", "chol", "thalach", "oldpeak")] == [0, 0, 0, 1]
    assert result.excluded == {f"{name} of 0, read as not measured": 1 for name in ("trestbps", "chol", "thalach")}


def test_what_no_one_can_have_is_left_out_and_counted(tmp_path: Path) -> None:
    odd = ["131" + FULL[2:], FULL.replace(",145,", ",16,"), FULL.replace(",2.3,", ",23,"), FULL[:-1] + "?"]
    folder = written(tmp_path / "data", *odd, *rows(6))
    few = everyone(folder, FLAMBY, tmp_path)
    assert len(few.y) == 6
    assert few.excluded == {
        "rows without a diagnosis": 1,
        "rows with age outside 15 to 130 years": 1,
        "rows with trestbps outside 40 to 300 mm Hg": 1,
        "rows with oldpeak outside -5 to 8 mm": 1,
    }
    every = everyone(folder, EXPLICIT, tmp_path)
    assert len(every.y) == 9
    assert every.excluded == {
        "rows without a diagnosis": 1,
        "age outside 15 to 130 years, read as not measured": 1,
        "trestbps outside 40 to 300 mm Hg, read as not measured": 1,
        "oldpeak outside -5 to 8 mm, read as not measured": 1,
    }
    assert every.age is not None
    assert np.flatnonzero(np.isnan(every.age)).tolist() == [0]
    assert np.argwhere(np.isnan(every.features[:3])).tolist() == [[0, 0], [1, 2], [2, 7]]


def test_equal_rows_are_one_person_where_that_does_not_change_the_published_sizes(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", *rows(5), FULL, *rows(3, seed=1), FULL)
    remaining = heart_disease.patients(folder, EXPLICIT, tmp_path)
    assert [item.id for item in remaining if item.person != item.id] == ["north-0010"]
    assert remaining[-1].person == "north-0006"
    assert everyone(folder, EXPLICIT, tmp_path).persons[-1] == "north-0006"
    assert all(item.person == item.id for item in heart_disease.patients(folder, FLAMBY, tmp_path))


def test_one_protocol_trains_on_no_one_that_the_other_tests(simulated: Path, tmp_path: Path) -> None:
    sides = {
        name: {item.id: item.published for item in heart_disease.patients(simulated, options, tmp_path)}
        for name, options in {
            "flamby": FLAMBY,
            "explicit": EXPLICIT,
            "complete": Options(protocol="explicit", tested="complete"),
        }.items()
    }
    assert 0 < len(sides["flamby"]) < len(sides["explicit"]) == 1500
    assert {name: sides["explicit"][name] for name in sides["flamby"]} == sides["flamby"]
    tested = {name: [who for who, side in every.items() if side == "test"] for name, every in sides.items()}
    assert tested["complete"] == tested["flamby"]
    assert len(tested["explicit"]) == pytest.approx(0.34 * 1500, abs=10)


def test_another_draw_is_another_split_of_the_same_size(simulated: Path, tmp_path: Path) -> None:
    tested = []
    for draw in range(3):
        result = heart_disease.patients(simulated, Options(draw=draw), tmp_path)
        tested.append({item.id for item in result if item.published == "test"})
        assert Counter(item.published for item in result) == Counter(
            item.published for item in heart_disease.patients(simulated, FLAMBY, tmp_path)
        )
    for one, other in ((0, 1), (0, 2), (1, 2)):
        shared = len(tested[one] & tested[other]) / len(tested[one])
        assert 0.2 < shared < 0.5


@pytest.mark.parametrize(("count", "ill", "tested"), [(1, 1, 0), (2, 0.5, 1), (3, 0.4, 2), (30, 1, 11), (60, 0.05, 21)])
def test_hospitals_that_are_small_or_have_one_class(tmp_path: Path, count: int, ill: float, tested: int) -> None:
    folder = written(tmp_path / "data", *rows(count, ill=ill))
    result = heart_disease.patients(folder, FLAMBY, tmp_path)
    assert sum(item.published == "test" for item in result) == tested
    assert len(result) == count
    assert sum(item.examples[1] for item in result) == np.ceil(ill * count)


def test_what_a_file_left_out_is_counted_once_however_patients_are_dealt(simulated: Path, tmp_path: Path) -> None:
    source = Source(heart_disease, FLAMBY, simulated, tmp_path)
    missing = sum("?" in cells[:10] for cells in _cells(simulated))
    assert missing > 100
    for scheme in ("natural", "even"):
        run = config.parse_config({"sites": {"scheme": scheme, "count": 7, "split": "published"}})
        dealt, _, dropped = datasets.assign_hospitals(source, run)
        counts: Counter[str] = Counter()
        for ids in dealt.values():
            counts.update(source.read(ids).excluded)
        zeros = sum(float(cells[4]) == 0 for cells in _cells(simulated) if "?" not in cells[:10])
        assert counts == {"rows with a missing value": missing, ZERO_RETAINED.format("chol"): zeros}
        assert zeros > 100
        assert dropped == 0
        assert sum(map(len, dealt.values())) == 1500 - missing


def _cells(folder: Path) -> list[list[str]]:
    return [line.split(",") for line in _lines(folder)]


def _lines(folder: Path) -> list[str]:
    return [line for path in sorted(folder.glob("*.data")) for line in path.read_text().splitlines()]


def test_some_are_read_in_the_order_asked_for(simulated: Path, tmp_path: Path) -> None:
    whole = everyone(simulated, EXPLICIT, tmp_path)
    ids = [whole.patients[position] for position in (900, 3, 700, 2)]
    few = heart_disease.read(simulated, EXPLICIT, ids, tmp_path)
    assert few.patients == tuple(ids)
    assert whole.age is not None
    assert few.age is not None
    assert few.sex is not None
    assert whole.sex is not None
    for position, row in enumerate((900, 3, 700, 2)):
        np.testing.assert_array_equal(few.features[position], whole.features[row])
        assert few.persons[position] == whole.persons[row]
        assert (few.y[position], few.age[position], few.sex[position]) == (whole.y[row], whole.age[row], whole.sex[row])
    with pytest.raises(DataError, match="1 of the 2 requested rows are not there"):
        heart_disease.read(simulated, EXPLICIT, [ids[0], "north-9999"], tmp_path)
    with pytest.raises(DataError, match="no examples of"):
        heart_disease.read(simulated, EXPLICIT, [], tmp_path)


def test_one_hospitals_folder_is_read_as_that_hospital(simulated: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "processed.west.data").write_bytes((simulated / "processed.west.data").read_bytes())
    alone = heart_disease.patients(tmp_path / "own", FLAMBY, tmp_path)
    among = [item for item in heart_disease.patients(simulated, FLAMBY, tmp_path) if item.site == "west"]
    assert [(item.id, item.published) for item in alone] == [(item.id, item.published) for item in among]
    assert {item.site for item in alone} == {None}


def test_a_second_reading_parses_nothing_and_is_the_same(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = everyone(simulated, EXPLICIT, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(heart_disease, "read_rows", lambda path: pytest.fail(f"{path} was parsed again"))
        again = everyone(simulated, EXPLICIT, tmp_path)
    for field in ("features", "y", "patient", "age", "sex"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert (first.excluded, first.persons) == (again.excluded, again.persons)


def test_a_changed_file_or_option_is_read_anew(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", *rows(20))
    before = everyone(folder, FLAMBY, tmp_path)
    assert len(everyone(written(folder, *rows(19)), FLAMBY, tmp_path).y) == 19
    assert everyone(folder, EXPLICIT, tmp_path).features.shape[1] != before.features.shape[1]
