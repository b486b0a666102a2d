"""PTB-XL: labels against the publishers' own few lines of pandas, signals against wfdb, beats that fit mitdb's."""

from __future__ import annotations

import ast
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wfdb

from common import config, models
from common.errors import ConfigError, DataError
from common.sections.training import ModelConfig
from common.settings import validate_settings
from sites import datasets, splits
from sites.cohort import Cohort
from sites.datasets import Source, ptbxl
from sites.datasets.ptbxl import metadata, simulate
from sites.datasets.ptbxl import recordings as ptbxl_records
from sites.ecg import beats, features, r_peaks
from sites.ecg import recordings as records
from sites.ecg.beat_reader import Options, beat_task
from sites.ecg.filtering import resample_and_filter
from sites.ecg.leads import STANDARD
from sites.ecg.signals import read_leads
from sites.synthetic_folder import MARKER

ROOT = Path(__file__).resolve().parents[4]
SUPER = ["NORM", "MI", "STTC", "CD", "HYP"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ptbxl") / "made"
    simulate.generate(folder, patients=60, rate=100, seed=5)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "made"
    simulate.generate(folder, patients=14, rate=100, seed=5)
    return folder


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(small, tmp_path / "copy")
    return tmp_path / "copy"


def options(**given: Any) -> ptbxl.Options:
    return validate_settings(ptbxl.Options, given, "test")


def read_all(folder: Path, store: Path, **given: Any) -> Cohort:
    chosen = options(**given)
    return ptbxl.read(folder, chosen, [item.id for item in ptbxl.patients(folder, chosen, store)], store)


def published_labels(folder: Path) -> pd.Series:
    """Return each recording's superclasses as the publishers' example gives them."""
    database = pd.read_csv(folder / "ptbxl_database.csv", index_col="ecg_id")
    statements = pd.read_csv(folder / "scp_statements.csv", index_col=0)
    statements = statements[statements.diagnostic == 1]
    return database.scp_codes.map(
        lambda text: {statements.diagnostic_class[code] for code in ast.literal_eval(text) if code in statements.index}
    )


def edit(folder: Path, row: int, **cells: object) -> None:
    path = folder / "ptbxl_database.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name, value in cells.items():
        table.loc[row, name] = str(value)
    table.to_csv(path, index=False)


def refused(call: Callable[[], object], *said: str) -> str:
    with pytest.raises(DataError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for part in said:
        assert part in text
    return text


# Labels


def check_against_the_publishers(folder: Path, store: Path) -> None:
    truth = published_labels(folder)
    cohort = read_all(folder, store)
    with_any = truth[truth.map(len) > 0]
    assert [cohort.patients[i] for i in cohort.patient] == [str(n) for n in with_any.index]
    assert [{SUPER[k] for k in np.flatnonzero(row)} for row in cohort.y] == list(with_any)
    assert cohort.excluded == {"recordings without a diagnostic statement": int((truth.map(len) == 0).sum())}
    for norm in ("only", "among"):
        binary = read_all(folder, store, task="norm", norm=norm)
        normal = [item == {"NORM"} if norm == "only" else "NORM" in item for item in with_any]
        assert binary.y.tolist() == [0 if item else 1 for item in normal]


def test_labels_are_the_publishers(made: Path, prepared: Path) -> None:
    check_against_the_publishers(made, prepared)


def test_a_likelihood_can_be_asked_for_and_zero_stands_for_unknown(copy: Path, prepared: Path) -> None:
    edit(copy, 0, scp_codes="{'NORM': 80.0, 'LVH': 0.0, 'AMI': 50.0, 'IMI': 35.0, 'SR': 100.0}")
    for least, labels in ((0, [1, 1, 0, 0, 1]), (1, [1, 1, 0, 0, 0]), (50, [1, 1, 0, 0, 0]), (60, [1, 0, 0, 0, 0])):
        assert read_all(copy, prepared, likelihood=least).y[0].tolist() == labels
    assert ptbxl.patients(copy, options(likelihood=90), prepared)[0].examples == (0, 0, 0, 0, 0)


def test_normal_is_norm_alone_or_norm_at_all(copy: Path, prepared: Path) -> None:
    edit(copy, 0, scp_codes="{'NORM': 100.0, 'IRBBB': 100.0}")
    edit(copy, 1, scp_codes="{'NORM': 100.0, 'SR': 0.0}")
    edit(copy, 2, scp_codes="{'IRBBB': 100.0}")
    assert read_all(copy, prepared, task="norm", norm="only").y[:3].tolist() == [1, 0, 1]
    assert read_all(copy, prepared, task="norm", norm="among").y[:3].tolist() == [0, 0, 1]


def test_patients_count_what_is_read(made: Path, prepared: Path) -> None:
    for given in ({}, {"task": "norm"}, {"view": "beats"}, {"view": "beats", "task": "norm"}):
        cohort = read_all(made, prepared, **given)
        for i, item in enumerate(ptbxl.patients(made, options(**given), prepared)):
            mine = cohort.y[cohort.patient == i]
            counts = mine.sum(0) if mine.ndim == 2 else np.bincount(mine, minlength=2)
            assert tuple(counts) == item.examples


# Who and where


def test_age_and_sex_are_turned_to_ours(copy: Path, prepared: Path) -> None:
    table = pd.read_csv(copy / "ptbxl_database.csv")
    edit(copy, 0, age=300, sex=0)
    edit(copy, 1, age="", sex=1)
    edit(copy, 2, age=89, sex="")
    cohort = read_all(copy, prepared)
    np.testing.assert_array_equal(cohort.age[:3], np.asarray([90, np.nan, 89], np.float32))
    assert cohort.sex[:3].tolist() == [1, 0, -1]
    np.testing.assert_array_equal(cohort.age[3:], table.age[3:].to_numpy(np.float32))
    np.testing.assert_array_equal(cohort.sex[3:], 1 - table.sex[3:])


def test_sites_and_folds_are_those_of_the_table(made: Path, prepared: Path) -> None:
    table = pd.read_csv(made / "ptbxl_database.csv")
    found = ptbxl.patients(made, options(), prepared)
    assert [item.site for item in found] == [f"site-{int(n)}" for n in table.site]
    side = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}
    assert [item.published for item in found] == [side[n] for n in table.strat_fold]
    assert [item.person for item in found] == [f"person-{int(n)}" for n in table.patient_id]
    source = Source(ptbxl, options(), made, prepared)
    run = config.parse_config({"sites": {"scheme": "natural", "split": "published"}})
    dealt, kept, _ = datasets.assign_hospitals(source, run)
    assert sorted(dealt) == ["site-0", "site-1", "site-2", "site-3"]
    ids = dealt["site-0"]
    done = splits.assign_split(source.read(ids), [p for p in kept if p.id in ids], run.sites, run.seed, "site-0")
    for name, folds in (("train", range(1, 9)), ("validation", [9]), ("test", [10])):
        there = {done.patients[i] for i in done.part(name).patient}
        rows = table[(table.site == 0) & table.strat_fold.isin(folds)]
        assert there <= {str(n) for n in rows.ecg_id}
        assert there


def test_one_person_at_two_sites_counts_at_the_site_of_most(copy: Path, prepared: Path) -> None:
    """Rows 0-2: two of three at site 7; 3 and 4: one each, row 4 first; 5 and 6: one of them unknown; 7: unknown."""
    fold = pd.read_csv(copy / "ptbxl_database.csv").strat_fold[0]
    for row, (person, site, date) in enumerate(
        [(901, 5, 3), (901, 7, 2), (901, 7, 1), (902, 5, 2), (902, 7, 1), (903, "", 1), (903, 5, 2), (904, "", 1)]
    ):
        edit(copy, row, patient_id=person, site=site, recording_date=f"1990-01-0{date} 10:00:00", strat_fold=fold)
    found = ptbxl.patients(copy, options(), prepared)
    assert [item.site for item in found[:8]] == [
        "site-7", "site-7", "site-7", "site-7", "site-7", "site-5", "site-5", "site-unknown",
    ]  # fmt: skip
    datasets.assign_hospitals(Source(ptbxl, options(), copy, prepared), config.parse_config({}))
    moved = "recordings moved to the site of the person's others (not left out)"
    assert read_all(copy, prepared).excluded[moved] == 3
    assert ptbxl.read(copy, options(), [found[0].id], prepared).excluded == {moved: 1}
    assert moved not in ptbxl.read(copy, options(), [found[1].id], prepared).excluded


def test_small_sites_can_be_taken_together(made: Path, prepared: Path) -> None:
    table = pd.read_csv(made / "ptbxl_database.csv")
    people = table.groupby("site").patient_id.nunique()
    least = int(people.sort_values().iloc[1]) + 1
    found = ptbxl.patients(made, options(smallest=least), prepared)
    truth = ["site-other" if people[n] < least else f"site-{int(n)}" for n in table.site]
    assert [item.site for item in found] == truth
    assert len(set(truth)) == 3


# Signals


def test_strips_are_the_signals_that_wfdb_reads(made: Path, prepared: Path) -> None:
    table = pd.read_csv(made / "ptbxl_database.csv", index_col="ecg_id")
    cohort = read_all(made, prepared)
    few = read_all(made, prepared, leads=["V3", "I"])
    smooth = read_all(made, prepared, filtered=True, leads=["II"])
    assert cohort.x.shape[1:] == (12, 1000)
    for i in range(0, len(cohort.y), 9):
        name = table.filename_lr[int(cohort.patients[cohort.patient[i]])]
        theirs = wfdb.rdrecord(str(made / name)).p_signal
        np.testing.assert_allclose(cohort.x[i], theirs.T, atol=1e-6)
        np.testing.assert_array_equal(few.x[i], cohort.x[i][[8, 0]])
        alone = resample_and_filter(cohort.x[i].T[:, [1]].copy(), 100, 100, (0.5, 40.0))
        np.testing.assert_allclose(smooth.x[i][0], alone[:, 0], atol=1e-5)
    assert cohort.synthetic
    assert (made / MARKER).is_file()


def test_measures_of_a_strip_stand_beside_it(made: Path, prepared: Path) -> None:
    plain, measured = (read_all(made, prepared, task="norm", measures=on) for on in (False, True))
    np.testing.assert_array_equal(measured.x, plain.x)
    np.testing.assert_array_equal(measured.features, features.feature_table(plain))
    assert measured.task.features == features.feature_names(plain.task)
    assert (measured.task.units, measured.task.missing) == (True, True)  # mV and ms; a wave may not be found
    with pytest.raises(ConfigError, match="measures: only for strips"):
        options(view="beats", measures=True)


def test_the_files_of_500_hz(tmp_path: Path) -> None:
    simulate.generate(tmp_path / "made", patients=8, rate=500, seed=1)
    cohort = read_all(tmp_path / "made", tmp_path, rate=500)
    assert cohort.x.shape[1:] == (12, 5000)
    assert cohort.task.rate_hz == 500
    name = f"records500/00000/{int(cohort.patients[cohort.patient[0]]):05d}_hr"
    np.testing.assert_allclose(cohort.x[0], wfdb.rdrecord(str(tmp_path / "made" / name)).p_signal.T, atol=1e-6)
    refused(lambda: read_all(tmp_path / "made", tmp_path, rate=100), "no header", "records100")


def test_any_order_and_any_part_reads_alike(made: Path, prepared: Path) -> None:
    for given in ({}, {"view": "beats"}):
        whole = read_all(made, prepared, **given)
        ids = [whole.patients[i] for i in (40, 3, 17)]
        some = ptbxl.read(made, options(**given), ids, prepared)
        assert some.patients == tuple(ids)
        for k, i in enumerate((40, 3, 17)):
            for field in ("x", "features", "y"):
                ours, theirs = getattr(some, field)[some.patient == k], getattr(whole, field)[whole.patient == i]
                np.testing.assert_array_equal(ours, theirs)


def test_a_strip_with_a_missing_sample_is_left_out_and_counted(copy: Path, tmp_path: Path) -> None:
    before = read_all(copy, tmp_path)
    name = copy / "records100" / "00000" / "00004_lr"
    values = np.fromfile(name.with_suffix(".dat"), dtype="<i2").reshape(1000, 12)
    total = int(values[:, 6].sum(dtype=np.int64)) - int(values[500, 6]) - 2**15
    values[500, 6] = -(2**15)
    values.tofile(name.with_suffix(".dat"))
    header = name.with_suffix(".hea")
    lines = header.read_text().splitlines()
    cells = lines[7].split()
    lines[7] = " ".join([*cells[:6], str(total & 0xFFFF), *cells[7:]])
    header.write_text("\n".join(lines))
    after = read_all(copy, tmp_path)
    assert after.excluded == {**before.excluded, "strips with missing samples": 1}
    assert len(after.y) == len(before.y) - 1
    assert ptbxl.patients(copy, options(), tmp_path)[3].examples == (0, 0, 0, 0, 0)
    np.testing.assert_array_equal(after.x, before.x[before.patient != 3])


# Beats


@pytest.mark.parametrize("relative", [True, False])
def test_a_model_of_mitdbs_beats_fits_but_for_the_head(relative: bool) -> None:
    theirs = beat_task(Options(leads=1, relative=relative))
    for name in ("superclasses", "norm"):
        ours = ptbxl.task(options(view="beats", task=name, relative=relative))
        for field in ("channels", "samples", "rate_hz", "features", "channel_names"):
            assert getattr(ours, field) == getattr(theirs, field)
        shapes = [
            {key: value.shape for key, value in models.build_model(item, ModelConfig(), 1).state_dict().items()}
            for item in (ours, theirs)
        ]
        different = {key for key in shapes[0] if shapes[0][key] != shapes[1].get(key)}
        assert shapes[0].keys() == shapes[1].keys()
        assert different == {"head.out.weight", "head.out.bias"}


def test_beats_are_those_that_mitdbs_view_cuts_of_the_same_peaks(made: Path, prepared: Path) -> None:
    cohort = read_all(made, prepared, view="beats", task="norm")
    plain = read_all(made, prepared, view="beats", task="norm", relative=False)
    truth = published_labels(made)
    for i in range(20):
        if not (cohort.patient == i).any():
            continue
        name = cohort.patients[i]
        signal = wfdb.rdrecord(str(made / "records100" / "00000" / f"{int(name):05d}_lr")).p_signal[:, 1:2]
        signal = signal.astype(np.float32)
        peaks = r_peaks.detect_qrs(signal[:, 0], 100)
        marks = np.full(len(peaks), "N")
        cut = beats.cut_beats(records.Recording("x", 100, ("II",), signal, peaks, marks, ()), "window", 1)
        place = np.rint(cut.sample * 1.25)
        inside = (place >= 36) & (place + 60 <= 1250)
        mine = cohort.patient == i
        np.testing.assert_allclose(cohort.x[mine, 0], cut.x[inside, 0], atol=1e-5)
        np.testing.assert_allclose(cohort.x[mine, 1], cut.x[inside, 0] - cut.template[0], atol=1e-5)
        np.testing.assert_allclose(cohort.features[mine], cut.features[inside], atol=1e-3)
        assert set(cohort.y[mine]) <= {int(truth[int(name)] != {"NORM"})}
    np.testing.assert_array_equal(plain.x[:, 0], cohort.x[:, 0])
    np.testing.assert_array_equal(plain.features, cohort.features[:, : plain.features.shape[1]])
    assert cohort.excluded["beats cut off by an end of the strip"] > 0


def test_a_beat_too_near_to_an_end_is_left_out_and_counted(copy: Path, tmp_path: Path) -> None:
    path = copy / "records100" / "00000" / "00001_lr.dat"
    values = np.fromfile(path, dtype="<i2").reshape(1000, 12)
    first = int(r_peaks.detect_qrs(values[:, 1].astype(np.float32), 100)[0])
    values = np.roll(values, 20 - first, axis=0)  # the first beat at 0.2 s; checksums stay
    values.tofile(path)
    peaks = r_peaks.detect_qrs(values[:, 1].astype(np.float32), 100) / 100
    whole = (peaks >= 36 / 125) & (peaks <= 10 - 60 / 125)
    assert peaks[0] == 0.2
    cohort = ptbxl.read(copy, options(view="beats"), ["1"], tmp_path)
    assert len(cohort.y) == whole.sum()
    assert cohort.excluded == {"beats cut off by an end of the strip": int((~whole).sum())}


def test_beats_of_another_lead_first_keep_the_order(made: Path, prepared: Path) -> None:
    two = read_all(made, prepared, view="beats", leads=["V1", "II"])
    one = read_all(made, prepared, view="beats", leads=["V1"])
    assert two.task.channels == 4
    np.testing.assert_array_equal(two.x[:, 0], one.x[:, 0])


# Bad input

BAD_CELLS: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"ecg_id": 1}, ("line 4", "ecg_id appears twice")),
    ({"ecg_id": "1.5"}, ("line 4", "ecg_id is not a whole number")),
    ({"patient_id": ""}, ("line 4", "patient_id is not a whole number")),
    ({"patient_id": "Meier"}, ("line 4", "patient_id is not a number")),
    ({"age": "sixty"}, ("line 4", "age is not a number")),
    ({"age": 222}, ("line 4", "age is not a number of years")),
    ({"sex": 2}, ("line 4", "sex is neither 0 (male) nor 1 (female)")),
    ({"site": "north"}, ("line 4", "site is not a number")),
    ({"strat_fold": 11}, ("line 4", "strat_fold is not 1 to 10")),
    ({"strat_fold": ""}, ("line 4", "strat_fold is not 1 to 10")),
    ({"scp_codes": "NORM"}, ("line 4", "scp_codes does not hold statements")),
    ({"scp_codes": "{'NORM': 'high'}"}, ("line 4", "scp_codes does not hold statements")),
    ({"scp_codes": "{'XYZ': 100.0}"}, ("line 4", "a statement of scp_codes is not in scp_statements.csv")),
    ({"filename_lr": "records100/00000/00001_lr"}, ("line 4", "filename_lr appears twice")),
    ({"filename_lr": "../../other/00001_lr"}, ("line 4", "filename_lr does not name a file below this folder")),
    ({"filename_hr": ""}, ("line 4", "filename_hr does not name a file below this folder")),
    ({"filename_lr": "records100/00000/99999_lr"}, ("no header", "99999_lr.hea")),
]


@pytest.mark.parametrize(
    ("cells", "said"), BAD_CELLS, ids=[f"{next(iter(c))}-{i}" for i, (c, _) in enumerate(BAD_CELLS)]
)
def test_a_bad_cell_is_named_by_line_and_column(
    copy: Path, tmp_path: Path, cells: dict[str, object], said: tuple[str, ...]
) -> None:
    edit(copy, 2, **cells)
    text = refused(lambda: ptbxl.patients(copy, options(), tmp_path), *said)
    for value in ("Meier", "sixty", "222", "north", "XYZ", "high"):
        assert value not in text


def test_bad_tables_and_folders_are_named(copy: Path, tmp_path: Path) -> None:
    refused(lambda: ptbxl.patients(tmp_path / "lost", options(), tmp_path), f"no data folder {tmp_path / 'lost'}")
    (tmp_path / "empty").mkdir()
    refused(lambda: ptbxl.patients(tmp_path / "empty", options(), tmp_path), "no recordings in", "ptbxl_database.csv")
    refused(lambda: ptbxl.read(copy, options(), [], tmp_path), "no recordings of")
    refused(lambda: ptbxl.read(copy, options(), ["1", "77777"], tmp_path), "1 recordings to read are not in")
    database = copy / "ptbxl_database.csv"
    table = pd.read_csv(database, dtype=str)
    table.drop(columns=["site", "strat_fold"]).to_csv(database, index=False)
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "has no column site, strat_fold")
    table.iloc[:0].to_csv(database, index=False)
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "no recordings in", "has no rows")
    database.write_bytes(b"\xff\xfe\x00nonsense\n\x00")
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "is not a table")
    table.to_csv(database, index=False)
    (copy / "scp_statements.csv").write_text(",diagnostic,diagnostic_class\nNORM,1.0,HEALTHY\n")
    refused(
        lambda: ptbxl.patients(copy, options(), tmp_path), "scp_statements.csv, line 2: diagnostic_class is none of"
    )
    (copy / "scp_statements.csv").unlink()
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "no recordings in", "scp_statements.csv")


def test_bad_signal_files_are_named(copy: Path, tmp_path: Path) -> None:
    home = copy / "records100" / "00000"
    data = home / "00002_lr.dat"
    whole = data.read_bytes()
    data.write_bytes(whole[:-10])
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "00002_lr.dat is truncated, 23990 of 24000 bytes")
    data.unlink()
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "names the signal file 00002_lr.dat")
    data.write_bytes(whole)
    header = home / "00002_lr.hea"
    header.write_text(header.read_text().replace("12 100 1000", "12 250 1000"))
    refused(lambda: ptbxl.patients(copy, options(), tmp_path), "1000 samples at 250 Hz, not 10 s at 100 Hz")


def test_options_that_cannot_be(tmp_path: Path) -> None:
    for given, said in (
        ({"view": "beats", "leads": ["I", "II", "V1"]}, "the view beats takes one or two"),
        ({"leads": ["I", "I"]}, "one of them is listed twice"),
        ({"rate": 250}, "rate"),
        ({"leads": ["MLII"]}, "leads"),
    ):
        with pytest.raises(ConfigError, match=said):
            options(**given)
    with pytest.raises(ConfigError, match=r"data\.options\.simulated=true for SYNTHETIC data"):
        ptbxl.default_folder(options(), tmp_path, 1)
    folder = ptbxl.default_folder(options(simulated=True, patients=8), tmp_path, 1)
    assert (folder / "ptbxl_database.csv").is_file()


def test_a_second_reading_opens_no_signal_and_a_changed_file_does(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_all(copy, tmp_path)
    counted = Counter[str]()
    real = read_leads

    def counting(*given: Any) -> Any:
        counted["signals"] += 1
        return real(*given)

    monkeypatch.setattr(ptbxl_records, "read_leads", counting)
    np.testing.assert_array_equal(read_all(copy, tmp_path).x, first.x)
    assert counted["signals"] == 0
    header = copy / "records100" / "00000" / "00002_lr.hea"
    header.write_text(header.read_text().replace("1000/mV", "500/mV"))
    changed = read_all(copy, tmp_path)
    assert counted["signals"] > 0
    np.testing.assert_allclose(changed.x[changed.patient == 1], 2 * first.x[first.patient == 1], rtol=1e-6)
    edit(copy, 0, age=44)
    assert read_all(copy, tmp_path).age[0] == 44


# The real recordings


@pytest.fixture(scope="module")
def real() -> Path:
    folder = ROOT / "data" / "ptb-xl"
    if not (folder / "ptbxl_database.csv").is_file():
        pytest.skip(f"PTB-XL is not in {folder}")
    return folder


@pytest.mark.realdata
def test_the_real_counts_are_those_of_the_table(real: Path, prepared: Path) -> None:
    check_against_the_publishers(real, prepared)
    found = ptbxl.patients(real, options(), prepared)
    table = pd.read_csv(real / "ptbxl_database.csv")
    assert len(found) == len(table)
    assert len({item.person for item in found}) == table.patient_id.nunique()
    if len(table) == 500:
        assert len({item.person for item in found}) == 466
        assert Counter(item.site for item in found) == {"site-0": 256, "site-1": 161, "site-3": 66, "site-2": 17}
        assert np.sum([item.examples for item in found], axis=0).tolist() == [297, 73, 96, 78, 40]
        counts = np.sum([item.examples for item in ptbxl.patients(real, options(task="norm"), prepared)], axis=0)
        assert counts.tolist() == [290, 198]


@pytest.mark.realdata
def test_the_real_strips_are_the_signals_that_wfdb_reads(real: Path, prepared: Path) -> None:
    cohort = read_all(real, prepared)
    table = metadata.read_metadata(real)
    for i in range(0, len(cohort.y), 50):
        name = table.filename_lr[cohort.patients[cohort.patient[i]]]
        np.testing.assert_allclose(cohort.x[i], wfdb.rdrecord(str(real / name)).p_signal.T, atol=1e-6)
    assert cohort.task.channel_names == STANDARD


@pytest.mark.realdata
def test_the_real_hearts_beat_at_rates_that_hearts_have(real: Path, prepared: Path) -> None:
    cohort = read_all(real, prepared, view="beats", task="norm")
    beats_each = np.bincount(cohort.patient, minlength=len(cohort.patients))
    beats_each = beats_each[beats_each > 0]
    assert 8 < np.median(beats_each) < 13
    assert beats_each.min() >= 3
    assert beats_each.max() <= 30
