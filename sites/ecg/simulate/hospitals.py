"""Simulated hospitals: WFDB recordings and annotations that look like ECGs and belong to nobody.

The default data set must work without a download, so this module writes the files that a download would bring: a folder
of recordings for each hospital, with beats annotated by MIT-BIH's symbols. The readers of real recordings read them.
`patients.py` draws the patients, `waveforms.py` their rhythm and waves.

A model trained here has learnt a simulation (McSharry et al., IEEE Trans. Biomed. Eng. 50(3):289-294, 2003, with
ectopic beats of our own design). Its performance says nothing about patients.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from common.errors import ConfigError, DataError
from common.seeds import rng_for
from sites.ecg.simulate.patients import Patient, draw_patients
from sites.ecg.simulate.profiles import HospitalProfile, default_profiles
from sites.ecg.simulate.waveforms import simulate_noise, simulate_rhythm, simulate_waves
from sites.synthetic_folder import COMMENT, fill_folder

__all__ = ["MARKER", "HospitalProfile", "default_profiles", "generate"]

VERSION = 1
MARKER = "SYNTHETIC.json"


@contextmanager
def _old_pandas_calls() -> Iterator[None]:
    """Silence pandas 3.1's deprecation of the in-place calls that wfdb 4.3 makes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"The inplace keyword in DataFrame\.", DeprecationWarning)
        yield


with _old_pandas_calls():
    import wfdb


def generate(
    folder: Path,
    profiles: Sequence[HospitalProfile],
    *,
    minutes: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the recordings of all patients: `folder/<hospital>/<hospital>-001.{hea,dat,atr}` and on.

    Each hospital's folder has a RECORDS list, and `folder` the marker SYNTHETIC.json. The same arguments give the same
    bytes, and a hospital's bytes do not depend on the other hospitals. The folder is written completely or not at all;
    one that holds the same data already is left unchanged.

    Args:
        folder: where the hospitals' folders go.
        profiles: one for each hospital.
        minutes: length of each patient's recording.
        seed: seed of all draws.
        progress: called with the number of recordings written and their total.

    Raises:
        ConfigError: two hospitals have the same name, or `minutes` is below 0.1.
        DataError: the folder holds other data, or a signal does not fit its storage format.
    """
    names = [profile.name for profile in profiles]
    if not names or len(set(names)) < len(names) or not 0.1 <= minutes <= 24 * 60:
        raise ConfigError(f"cannot simulate {minutes} minutes at {names}: give 0.1 minutes or more, distinct names")
    total = sum(profile.patients for profile in profiles)
    done = 0
    with fill_folder(folder, _describe_settings(profiles, minutes, seed), MARKER) as build:
        if build is None:
            return
        for profile in profiles:
            home = build / profile.name
            home.mkdir()
            records = [f"{profile.name}-{number:03d}" for number in range(1, profile.patients + 1)]
            for index, patient in enumerate(draw_patients(profile, seed)):
                rng = rng_for(seed, "record", profile.name, index)
                _write_record(home, records[index], profile, patient, 60 * minutes, rng)
                done += 1
                if progress is not None:
                    progress(done, total)
            (home / "RECORDS").write_text("".join(f"{record}\n" for record in records))


def _describe_settings(profiles: Sequence[HospitalProfile], minutes: float, seed: int) -> str:
    content = {
        "what": COMMENT,
        "version": VERSION,
        "seed": seed,
        "minutes": float(minutes),
        "profiles": [asdict(profile) for profile in profiles],
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _write_record(
    home: Path,
    record: str,
    profile: HospitalProfile,
    patient: Patient,
    duration: float,
    rng: np.random.Generator,
) -> None:
    samples = round(duration * profile.rate)
    beats = simulate_rhythm(patient, duration, rng)
    ecg = simulate_waves(patient, beats, samples, profile, rng)
    disturbed, bursts = simulate_noise(patient, samples, profile, rng)
    digital = np.rint((ecg + disturbed) * profile.gain * profile.adc_gain).astype(np.int64) + profile.baseline
    limit = 2**11 if profile.storage == "212" else 2**15
    if np.abs(digital).max() >= limit:
        raise DataError(f"{record}: signal exceeds format {profile.storage}; lower the adc_gain of {profile.name}")
    notes = {round(beats.times[0] * profile.rate) // 2: "+"} | dict.fromkeys(bursts, "~")
    symbols = {"N": patient.normal, "S": "A", "V": "V", "F": "F"}
    # A beat replaces a noise mark at the same sample.
    notes |= {
        round(float(time) * profile.rate): symbols[kind]
        for time, kind in zip(beats.times, beats.kinds, strict=True)
        if time < duration - 0.1
    }
    positions = sorted(notes)
    leads = len(profile.leads)
    with _old_pandas_calls():
        wfdb.wrsamp(
            record,
            fs=profile.rate,
            units=["mV"] * leads,
            sig_name=list(profile.leads),
            d_signal=digital,
            fmt=[profile.storage] * leads,
            adc_gain=[profile.adc_gain] * leads,
            baseline=[profile.baseline] * leads,
            comments=[COMMENT, f"age: {patient.age} sex: {patient.sex}"],
            write_dir=str(home),
        )
        wfdb.wrann(
            record,
            "atr",
            sample=np.array(positions),
            symbol=[notes[position] for position in positions],
            aux_note=["(N\x00" if notes[position] == "+" else "" for position in positions],
            fs=profile.rate,
            write_dir=str(home),
        )
