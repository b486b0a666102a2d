"""PTB-XL: strips against wfdb, and beats that fit mitdb's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from common import models
from common.errors import ConfigError
from common.sections.training import ModelConfig
from sites.datasets import ptbxl
from sites.datasets.ptbxl import simulate
from sites.ecg import beats, features, r_peaks
from sites.ecg import recordings as records
from sites.ecg.beat_reader import Options, beat_task
from sites.ecg.filtering import resample_and_filter
from sites.synthetic_folder import MARKER
from tests.refusals import refused
from tests.sites.datasets.ptbxl.ptbxl_folders import options, published_labels, read_all


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


def test_measures_of_a_strip_are_printed_with_it(made: Path, prepared: Path) -> None:
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
        position = np.rint(cut.sample * 1.25)
        inside = (position >= 36) & (position + 60 <= 1250)
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


@pytest.mark.parametrize(("unit", "side"), [("uV", "less than 0.02"), ("V", "more than 50")])
@pytest.mark.parametrize("view", ["strip", "beats"])
def test_a_header_in_another_unit_than_the_samples_is_refused(
    made: Path, tmp_path: Path, unit: str, side: str, view: str
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "data"))
    table = pd.read_csv(folder / "ptbxl_database.csv", index_col="ecg_id")
    header = folder / f"{table.filename_lr[int(read_all(made, tmp_path / 'other').patients[0])]}.hea"
    header.write_text(header.read_text().replace("/mV", f"/{unit}"))
    refused(lambda: read_all(folder, tmp_path, view=view), header.name, f"moves by {side} mV in a second")
