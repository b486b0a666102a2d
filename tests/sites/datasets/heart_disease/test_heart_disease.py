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
    found = everyone(folder, EXPLICIT, tmp_path)
    values = dict(zip(found.task.features, found.features[0].tolist(), strict=True))
    assert [name for name, value in values.items() if np.isnan(value)] == ["trestbps", "chol", "thalach"]
    assert values["oldpeak"] == values["ca"] == values["fbs"] == 0
    assert [values[f"{name} measured"] for name in ("trestbps", "chol", "thalach", "oldpeak")] == [0, 0, 0, 1]
    assert found.excluded == {f"{name} of 0, read as not measured": 1 for name in ("trestbps", "chol", "thalach")}


def test_what_no_one_can_have_is_left_out_and_counted(tmp_path: Path) -> None:
    odd = ["131" + FULL[2:], FULL.replace(",145,", ",16,"), FULL.replace(",2.3,", ",23,"), FULL[:-1] + "?"]
    folder = written(tmp_path / "data", *odd, *rows(6))
    few = everyone(folder, FLAMBY, tmp_path)
    assert len(few.y) == 6
    assert few.excluded == {
        "rows without a diagnosis": 1,
        "rows with age outside 1 to 130 years": 1,
        "rows with trestbps outside 40 to 300 mm Hg": 1,
        "rows with oldpeak outside -5 to 8 mm": 1,
    }
    every = everyone(folder, EXPLICIT, tmp_path)
    assert len(every.y) == 9
    assert every.excluded == {
        "rows without a diagnosis": 1,
        "age outside 1 to 130 years, read as not measured": 1,
        "trestbps outside 40 to 300 mm Hg, read as not measured": 1,
        "oldpeak outside -5 to 8 mm, read as not measured": 1,
    }
    assert every.age is not None
    assert np.flatnonzero(np.isnan(every.age)).tolist() == [0]
    assert np.argwhere(np.isnan(every.features[:3])).tolist() == [[0, 0], [1, 2], [2, 7]]


def test_equal_rows_are_one_person_where_that_does_not_change_the_published_sizes(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", *rows(5), FULL, *rows(3, seed=1), FULL)
    kept = heart_disease.patients(folder, EXPLICIT, tmp_path)
    assert [item.id for item in kept if item.person != item.id] == ["north-0010"]
    assert kept[-1].person == "north-0006"
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
        found = heart_disease.patients(simulated, Options(draw=draw), tmp_path)
        tested.append({item.id for item in found if item.published == "test"})
        assert Counter(item.published for item in found) == Counter(
            item.published for item in heart_disease.patients(simulated, FLAMBY, tmp_path)
        )
    for one, other in ((0, 1), (0, 2), (1, 2)):
        shared = len(tested[one] & tested[other]) / len(tested[one])
        assert 0.2 < shared < 0.5


@pytest.mark.parametrize(("count", "ill", "tested"), [(1, 1, 0), (2, 0.5, 1), (3, 0.4, 2), (30, 1, 11), (60, 0.05, 21)])
def test_hospitals_that_are_small_or_have_one_class(tmp_path: Path, count: int, ill: float, tested: int) -> None:
    folder = written(tmp_path / "data", *rows(count, ill=ill))
    found = heart_disease.patients(folder, FLAMBY, tmp_path)
    assert sum(item.published == "test" for item in found) == tested
    assert len(found) == count
    assert sum(item.examples[1] for item in found) == np.ceil(ill * count)


def test_what_a_file_left_out_is_counted_once_however_patients_are_dealt(simulated: Path, tmp_path: Path) -> None:
    source = Source(heart_disease, FLAMBY, simulated, tmp_path)
    missing = sum("?" in ",".join(line.split(",")[:10]) for line in _lines(simulated))
    assert missing > 100
    for scheme in ("natural", "even"):
        run = config.parse_config({"sites": {"scheme": scheme, "count": 7, "split": "published"}})
        dealt, _, dropped = datasets.assign_hospitals(source, run)
        counts: Counter[str] = Counter()
        for ids in dealt.values():
            counts.update(source.read(ids).excluded)
        assert counts == {"rows with a missing value": missing}
        assert dropped == 0
        assert sum(map(len, dealt.values())) == 1500 - missing


def _lines(folder: Path) -> list[str]:
    return [line for path in sorted(folder.glob("*.data")) for line in path.read_text().splitlines()]


def test_some_are_read_in_the_order_asked_for(simulated: Path, tmp_path: Path) -> None:
    whole = everyone(simulated, EXPLICIT, tmp_path)
    ids = [whole.patients[place] for place in (900, 3, 700, 2)]
    few = heart_disease.read(simulated, EXPLICIT, ids, tmp_path)
    assert few.patients == tuple(ids)
    assert whole.age is not None
    assert few.age is not None
    assert few.sex is not None
    assert whole.sex is not None
    for place, row in enumerate((900, 3, 700, 2)):
        np.testing.assert_array_equal(few.features[place], whole.features[row])
        assert few.persons[place] == whole.persons[row]
        assert (few.y[place], few.age[place], few.sex[place]) == (whole.y[row], whole.age[row], whole.sex[row])
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


BAD = {
    "a column too few": ([FULL, FULL[:-2]], r"line 2 has 13 columns, not the 14 of UCI's processed files \(age, sex,"),
    "a decimal comma": ([FULL.replace("2.3", "2,3")], r"line 1 has 15 columns, not the 14"),
    "a word": ([FULL, "", FULL.replace("233", "high")], r"line 3, column chol: neither a number nor \?"),
    "an empty cell": ([FULL, FULL.replace("233", "")], r"line 2, column chol: neither a number nor \?"),
    "not a number": ([FULL, FULL.replace("233", "nan")], r"line 2, column chol: neither"),
    "an underscore": ([FULL, FULL.replace("233", "2_33")], r"line 2, column chol: neither"),
    "a header": ([",".join(COLUMNS), FULL], r"line 1, column age: neither .* no header line"),
    "a recoded file": ([FULL, FULL.replace(",6,", ",2,")], r"line 2, column thal: not one of UCI's codes 3, 6, 7: is"),
    "half a code": ([FULL, FULL[:-1] + "0.5"], r"line 2, column num: not one of UCI's codes 0, 1, 2, 3, 4"),
    "nothing": ([], r"processed\.north\.data is empty"),
    "only blank lines": (["", "  "], r"processed\.north\.data is empty"),
    "kilopascal": ([row.replace(f",{100 + i},", ",16,") for i, row in enumerate(rows(9))],
                   r"column trestbps is outside 40 to 300 mm Hg in 9 of 9 rows: is it in another unit\? UCI's is mm"),
    "mmol per litre": ([row.replace(",200,", ",5.2,") for row in rows(9)], r"column chol is outside 50 to 900 mg/dl"),
    "months": ([f"{300 + i}" + row[2:] for i, row in enumerate(rows(9))], r"column age is outside 1 to 130 years"),
    "no complete row": ([SPARSE, SPARSE.replace("35", "36", 1)],
                        r"none of its 2 rows can be used \(2 rows with a missing value\): data\.options\.protocol=ex"),
    "no diagnosis": ([FULL[:-1] + "?"], r"none of its 1 rows can be used \(1 rows without a diagnosis\)$"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_a_file_that_is_not_what_it_says_is_named_in_one_line(tmp_path: Path, content: list[str], said: str) -> None:
    folder = written(tmp_path / "data", *content)
    with pytest.raises(DataError, match=said) as caught:
        heart_disease.patients(folder, FLAMBY, tmp_path)
    assert "processed.north.data" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not {"high", "2_33", "233", "2.3"} & set(str(caught.value).split())


def test_missing_is_written_in_two_ways(tmp_path: Path) -> None:
    marked = [row.replace("?", mark) for mark in ("-9", "-9.0") for row in (SPARSE, FULL)]
    found = everyone(written(tmp_path / "data", *marked), EXPLICIT, tmp_path)
    expected = f32([EXPLICIT_SPARSE, EXPLICIT_FULL] * 2)
    np.testing.assert_array_equal(found.features, expected)


def test_age_and_sex_may_be_unknown_and_a_file_may_open_with_a_mark(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", "\ufeff?,?" + FULL[4:] + "\r", FULL + "\r")
    found = everyone(folder, EXPLICIT, tmp_path)
    assert found.age is not None
    assert found.sex is not None
    np.testing.assert_array_equal(found.age, [NAN, 63])
    assert found.sex.tolist() == [-1, 1]
    np.testing.assert_array_equal(found.features, f32([[NAN, NAN, *EXPLICIT_FULL[2:]], EXPLICIT_FULL]))
    assert everyone(folder, FLAMBY, tmp_path).patients == ("north-0002",)


def test_files_that_are_no_hospitals_or_one_hospital_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data folder"):
        heart_disease.patients(tmp_path / "lost", FLAMBY, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reprocessed.hungarian.data").write_text("40 1 2\n")
    (tmp_path / "data" / "cleveland.data").write_text("1 0 63\n")
    with pytest.raises(DataError, match=r"no recordings in .* are called processed\.<hospital>\.data"):
        heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)
    written(tmp_path / "data", *rows(8))
    assert len(heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)) == 8
    written(tmp_path / "data", *rows(8, seed=1), name="south")
    assert {item.site for item in heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)} == {"north", "south"}
    written(tmp_path / "data", *rows(8)[:6], *rows(5, seed=1)[3:], name="east")
    with pytest.raises(DataError, match=r"processed\.east\.data and processed\.north\.data hold the same rows"):
        heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)
    written(tmp_path / "data", *rows(8, seed=2), name="east")
    written(tmp_path / "data", *rows(8, seed=3), name="EAST")
    with pytest.raises(DataError, match=r"processed\.EAST\.data and processed\.east\.data name one hospital twice"):
        heart_disease.patients(tmp_path / "data", FLAMBY, tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", FULL)
    (folder / "processed.north.data").write_bytes(b"63,\xff\xfe,1\n")
    with pytest.raises(DataError, match="is not a text file"):
        heart_disease.patients(folder, FLAMBY, tmp_path)
    (folder / "processed.north.data").unlink()
    (folder / "processed.north.data").mkdir()
    with pytest.raises(DataError, match="cannot read"):
        heart_disease.patients(folder, FLAMBY, tmp_path)


def test_generated_hospitals_differ_and_can_be_learnt_from(simulated: Path, tmp_path: Path) -> None:
    for options in (FLAMBY, EXPLICIT):
        found = everyone(simulated, options, tmp_path)
        assert found.synthetic
        model = make_pipeline(StandardScaler(), SimpleImputer(), LogisticRegression(C=0.1))
        score = cross_val_predict(model, found.features, found.y, cv=3, method="decision_function")
        assert 0.75 < roc_auc_score(found.y, score) < 0.9
    table = {
        name: pd.read_csv(simulated / f"processed.{name}.data", header=None, names=COLUMNS, na_values="?")
        for name in ("north", "south", "west", "east", "hospital-005")
    }
    assert {len(rows) for rows in table.values()} == {300}
    assert (table["west"].chol == 0).all()
    assert table["north"].notna().all(axis=1).mean() > 0.95
    assert table["south"].ca.isna().mean() > 0.85
    assert table["east"].age.mean() > table["south"].age.mean() + 8
    assert (table["west"].num > 0).mean() > (table["south"].num > 0).mean() + 0.2
    every = pd.concat(table.values())
    every["reserve"] = 220 - every.age - every.thalach
    ill = every.groupby(every.num > 0)[["reserve", "oldpeak"]].mean()
    assert ill.reserve[True] > ill.reserve[False] + 5
    assert ill.oldpeak[True] > ill.oldpeak[False] + 0.3


def test_a_generated_hospital_is_the_same_whatever_the_others(simulated: Path, tmp_path: Path) -> None:
    simulate.generate(tmp_path / "two", hospitals=2, patients=300, seed=4)
    simulate.generate(tmp_path / "other", hospitals=2, patients=300, seed=5)
    for name in ("processed.north.data", "processed.south.data"):
        same = (simulated / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == same
        assert (tmp_path / "other" / name).read_bytes() != same
    with pytest.raises(DataError, match="holds other data"):
        simulate.generate(tmp_path / "two", hospitals=2, patients=300, seed=5)


def test_hospitals_are_generated_only_where_asked_for(tmp_path: Path) -> None:
    raw = {"dataset": "heart_disease", "cache": str(tmp_path)}
    with pytest.raises(
        ConfigError, match=r"data\.path: name the folder of heart_disease .* or data\.options\.simulated=tr"
    ):
        datasets.open_source(config.parse_config({"data": raw}), None)
    asked = {"simulated": True, "hospitals": 3, "patients": 12, "protocol": "explicit"}
    source = datasets.open_source(config.parse_config({"data": raw | {"options": asked}}), None)
    assert source.folder.parent == tmp_path
    assert synthetic_folder.is_marked(source.folder)
    assert Counter(item.site for item in source.patients()) == {"north": 12, "south": 12, "west": 12}


PUBLISHED = {"cleveland": (199, 104), "hungarian": (172, 89), "switzerland": (30, 16), "va": (85, 45)}
CLASSES = {"cleveland": (164, 139), "hungarian": (188, 106), "switzerland": (8, 115), "va": (51, 149)}


@pytest.mark.realdata
@pytest.mark.parametrize("draw", range(5))
def test_the_sizes_that_flamby_publishes(uci: Path, tmp_path: Path, draw: int) -> None:
    found = heart_disease.patients(uci, Options(draw=draw), tmp_path)
    sides = Counter((item.site, item.published) for item in found)
    assert {site: (sides[site, "train"], sides[site, "test"]) for site in PUBLISHED} == PUBLISHED
    assert len(sides) == 8
    excluded = {
        site: heart_disease.read(uci, FLAMBY, [p.id for p in found if p.site == site], tmp_path).excluded
        for site in PUBLISHED
    }
    assert excluded == {"cleveland": {}} | {
        site: {"rows with a missing value": count}
        for site, count in {"hungarian": 33, "switzerland": 77, "va": 70}.items()
    }


@pytest.mark.realdata
def test_rows_and_inputs_are_flambys(uci: Path, tmp_path: Path) -> None:
    """Worked out anew with pandas: drop three inputs, then rows with a gap; dummies over all hospitals."""
    tables = {}
    for site in PUBLISHED:
        raw = pd.read_csv(uci / f"processed.{site}.data", header=None, na_values="?")
        tables[site] = raw.drop(columns=[10, 11, 12]).dropna()
    whole = pd.concat(tables, names=["site", "row"])
    inputs = pd.get_dummies(whole.drop(columns=13), columns=[2, 6], drop_first=True).astype(np.float32)
    label = (whole[13] > 0).astype(int)
    found = {item.id: item for item in heart_disease.patients(uci, FLAMBY, tmp_path)}
    assert len(found) == len(whole) == 740
    cohort = heart_disease.read(uci, FLAMBY, list(found), tmp_path)
    assert cohort.patients == tuple(f"{site}-{row + 1:04d}" for site, row in whole.index)
    np.testing.assert_array_equal(cohort.features, inputs.to_numpy())
    np.testing.assert_array_equal(cohort.y, label)
    for site in PUBLISHED:
        mine = label.xs(site)
        stratify = mine if mine.nunique() > 1 and mine.value_counts().min() > 2 else None
        _, tested = train_test_split(
            mine.index, test_size=1 - 0.66, train_size=0.66, random_state=43, stratify=stratify
        )
        expected = {f"{site}-{row + 1:04d}" for row in tested}
        assert {name for name, item in found.items() if item.site == site and item.published == "test"} == expected


@pytest.mark.realdata
def test_the_tested_rows_stay_what_they_are(uci: Path, tmp_path: Path) -> None:
    """Fingerprints of the tested lines, which another version of scikit-learn must not change."""
    seen = dict.fromkeys(PUBLISHED, "")
    for site in PUBLISHED:
        lines = [
            int(item.id.partition("-")[2])
            for item in heart_disease.patients(uci, FLAMBY, tmp_path)
            if item.site == site and item.published == "test"
        ]
        seen[site] = hashlib.sha256(",".join(map(str, sorted(lines))).encode()).hexdigest()[:16]
    assert seen == {
        "cleveland": "6611ee7fa5221647",
        "hungarian": "95918feed3f97bde",
        "switzerland": "29cd376bccfbb24e",
        "va": "039ceb0cdff499df",
    }


@pytest.mark.realdata
def test_all_rows_with_the_class_counts_that_uci_publishes(uci: Path, tmp_path: Path) -> None:
    found = heart_disease.patients(uci, EXPLICIT, tmp_path)
    for site, counts in CLASSES.items():
        assert tuple(np.sum([item.examples for item in found if item.site == site], axis=0).tolist()) == counts
    cohort = everyone(uci, EXPLICIT, tmp_path)
    # As awk counts them: zeros of the fourth and fifth column.
    assert cohort.excluded == {"chol of 0, read as not measured": 172, "trestbps of 0, read as not measured": 1}
    swiss = np.asarray([name.startswith("switzerland") for name in cohort.patients])
    assert swiss.sum() == 123
    chol = cohort.task.features.index("chol")
    assert np.isnan(cohort.features[swiss, chol]).all()
    assert (cohort.features[swiss, cohort.task.features.index("chol measured")] == 0).all()
    assert np.nanmin(cohort.features[~swiss, chol]) == 85
    # Lines 102 and 103 of Hungary are equal, and 140 and 188 of Long Beach.
    shared = {(item.id, item.person) for item in found if item.id != item.person}
    assert shared == {("hungarian-0103", "hungarian-0102"), ("va-0188", "va-0140")}


@pytest.mark.realdata
def test_real_rows_read_by_hand(uci: Path, tmp_path: Path) -> None:
    """The first line of Cleveland, the third of Switzerland (35,1,4,?,0,?,0,130,1,?,?,?,7,3)."""
    ids = ["switzerland-0003", "cleveland-0001"]
    found = heart_disease.read(uci, EXPLICIT, ids, tmp_path)
    male = [35, 1, *EXPLICIT_SPARSE[2:]]
    np.testing.assert_array_equal(found.features, f32([male, EXPLICIT_FULL]))
    assert found.y.tolist() == [1, 0]
    one = heart_disease.read(uci, FLAMBY, ids[1:], tmp_path)
    np.testing.assert_array_equal(one.features, f32([FLAMBY_FULL]))
    with pytest.raises(DataError, match="1 of the 1 requested rows are not there, or not used"):
        heart_disease.read(uci, FLAMBY, ids[:1], tmp_path)
