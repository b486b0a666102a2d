"""The contract of every data set: a new file of sites/ is tested the moment it exists, on generated recordings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from common import config, plugins
from common.config import RunConfig
from common.errors import ConfigError, DataError, LeakError
from common.settings import validate_settings
from sites import cache, datasets, splits
from sites.cohort import Cohort, DataCard, Patient, Windows
from sites.datasets import Source, mitdb, ptbxl, synthetic
from sites.datasets.meds import simulate as meds_simulate
from sites.datasets.meds.description import load_description as load_extract_description
from sites.datasets.recordings.description import Class, Description
from sites.datasets.recordings.guess import guess_description
from sites.datasets.table import simulate as table_simulate
from sites.datasets.table.description import load_description
from sites.ecg import recordings
from sites.ecg.beat_reader import Options
from sites.ecg.simulate import hospitals as generator
from tests.sites.datasets.dataset_variants import OPTIONS

GENERATED: dict[str, list[dict[str, Any]]] = {
    "heart_disease": [{"patients": 30}, {"patients": 30, "protocol": "explicit"}],
    "ptbdb": [{"patients": 8, "seconds": 10.0}, {"patients": 8, "seconds": 10.0, "task": "record"}],
    "ptbxl": [{"patients": 24}, {"patients": 24, "task": "norm", "view": "beats"}],
    "heartbeat_csv": [{"patients": 6}, {"patients": 6, "set": "ptbdb"}],
    "sepsis": [{"patients": 30}, {"patients": 30, "view": "hours"}],
    "yaib": [{"hospitals": 3, "stays": 30}, {"hospitals": 2, "stays": 30, "carry": False, "mask": False}],
    "eicu": [{"hospitals": 4, "stays": 25, "min_patients": 10}, {"hospitals": 4, "stays": 25, "view": "hours"}],
}
"""What is tried on the others, which generate their own layout."""
MIXED = "mixed"
"""Made of two of the others."""
TABLE = "table"
"""Described by a file beside its data."""
MEDS = "meds"
"""Described by a file beside its data."""
RECORDINGS = "recordings"
"""Described by a file beside its data: beats, or strips of a label table."""


def variants() -> Iterator[Any]:
    for name in datasets.dataset_names():
        known = plugins.load_plugin("sites.datasets", "CARD", name, "data set").Options.model_fields
        tried = GENERATED.get(
            name,
            [{}]
            if name in (MIXED, TABLE)
            else [{"examples": "beats"}, {"examples": "strips"}]
            if name == RECORDINGS
            else OPTIONS["default"] + OPTIONS["ecg"],
        )
        for options in tried:
            if options.keys() <= known.keys():
                yield pytest.param((name, options), id="-".join([name, *map(str, options.values())]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(params=variants())
def source(request: pytest.FixtureRequest, hospitals: Path, store: Path) -> Source:
    """A data set on generated recordings: of several hospitals where it knows them, else of one folder."""
    name, options = request.param
    module = plugins.load_plugin("sites.datasets", "CARD", name, "data set")
    if name == MIXED:
        both = store / "both"
        if not both.is_dir():
            both.mkdir()
            (both / "mitdb").symlink_to(hospitals / "north")
            generated = ptbxl.Options(simulated=True, patients=24)
            (both / "ptb-xl").symlink_to(ptbxl.default_folder(generated, store / "ptbxl", 1))
        return Source(module, module.Options(), both, store / name)
    if name == TABLE:
        table_simulate.generate(store / "table-data", hospitals=3, patients=30, seed=1)
        described = load_description(store / "table-data" / "table.yaml")
        return Source(module, described, store / "table-data", store / name)
    if name == MEDS:
        meds_simulate.generate(store / "meds-data", hospitals=3, patients=40, seed=1)
        extract = load_extract_description(store / "meds-data" / "meds.yaml")
        return Source(module, extract, store / "meds-data", store / name)
    if name == RECORDINGS:
        return Source(module, describe_recordings(store, hospitals, options["examples"]), store / "own", store / name)
    if name in GENERATED:
        wanted = validate_settings(module.Options, options | {"simulated": True}, name)
        return Source(module, wanted, module.default_folder(wanted, store / name, 1), store / name)
    folder = hospitals if module.CARD.synthetic else hospitals / "north"
    return Source(module, validate_settings(module.Options, options, name), folder, store / name)


def describe_recordings(store: Path, hospitals: Path, examples: str) -> Description:
    """Return a description of the generated recordings in one folder, with a table of labels."""
    folder = store / "own"
    if not folder.is_dir():
        folder.mkdir()
        rows = ["recording,label"]
        for hospital in ("north", "south"):
            shutil.copytree(hospitals / hospital, folder / hospital)
            rows += [f"{hospital}/{p.stem},{i % 2}" for i, p in enumerate(sorted((hospitals / hospital).glob("*.hea")))]
        (folder / "labels.csv").write_text("\n".join(rows) + "\n")
        (folder / "RECORDS").write_text("\n".join(row.partition(",")[0] for row in rows[1:]))
    described, _ = guess_description(folder)
    if examples == "beats":
        return described
    classes = tuple(Class(name=f"class {i}", values=(str(i),)) for i in range(2))
    lead = recordings.read_recording(hospitals / "north", sorted((hospitals / "north").glob("*.hea"))[0].stem).leads[0]
    changes = {"examples": "strips", "labels": "table", "classes": classes, "strip_leads": (lead,), "seconds": 5}
    return described.model_copy(update=changes)


OPTIONAL = ("warning", "question", "examples", "years", "setting")
"""Fields of a card that may be empty."""


def test_the_card_says_everything() -> None:
    for name in datasets.dataset_names():
        module: ModuleType = plugins.load_plugin("sites.datasets", "CARD", name, "data set")
        card = module.CARD
        assert isinstance(card, DataCard)
        assert card.name == name
        for field in fields(card):
            value = getattr(card, field.name)
            assert isinstance(value, bool) or value.strip() or field.name in OPTIONAL, field.name
        doc = module.__doc__ or ""
        assert "`CARD`" in doc
        assert not any(word in doc for word in ("Citation", "Licence", card.citation, card.licence))
        assert card.synthetic == ("SYNTHETIC" in doc)


def signal(cohort: Cohort) -> np.ndarray:
    return cohort.x.dense() if isinstance(cohort.x, Windows) else cohort.x


def test_task_patients_and_examples_agree(source: Source) -> None:
    task, patients = source.task(), source.patients()
    assert len({item.id for item in patients}) == len(patients) >= 3
    assert {item.published for item in patients} <= {"train", "validation", "test", None}
    cohort = source.read([item.id for item in patients])
    assert cohort.task == task
    assert cohort.x.shape == (len(cohort.y), task.channels, task.samples)
    assert cohort.features.shape[1] == len(task.features)
    assert len(set(task.features)) == len(task.features)
    assert (signal(cohort).dtype, cohort.features.dtype, cohort.y.dtype) == (np.float32, np.float32, np.int64)
    assert (cohort.split == -1).all()
    assert cohort.synthetic
    persons = {item.id: item.person for item in patients}
    assert [persons[name] for name in cohort.patients] == list(cohort.persons)
    positions = {name: i for i, name in enumerate(cohort.patients)}
    for item in patients:
        mine = cohort.take(cohort.patient == positions[item.id])
        assert mine.class_counts() == item.examples
    assert cohort.y.min() >= 0
    assert sum(count > 0 for count in cohort.class_counts()) >= 2
    if cohort.age is not None:
        known = cohort.age[~np.isnan(cohort.age)]
        assert len(known)
        assert ((known >= 0) & (known <= 110)).all()
    if cohort.sex is not None:
        assert set(cohort.sex.tolist()) <= {-1, 0, 1}


def test_what_is_missing_is_so_by_the_task(source: Source) -> None:
    cohort = source.read([item.id for item in source.patients()])
    gaps = bool(np.isnan(cohort.features).any() or np.isnan(signal(cohort)).any())
    assert not gaps or source.task().missing
    if source.task().missing:
        assert source.task().units
    measured = {name.removesuffix(" measured"): i for i, name in enumerate(source.task().features)}
    for i, name in enumerate(source.task().features):
        flag = measured.get(name) if f"{name} measured" in source.task().features else None
        if flag is not None:
            np.testing.assert_array_equal(cohort.features[:, flag] == 1, ~np.isnan(cohort.features[:, i]), name)


def test_a_second_read_gives_the_same(source: Source, tmp_path: Path) -> None:
    ids = [item.id for item in source.patients()]
    first = source.read(ids)
    fresh = Source(source.module, source.options, source.folder, tmp_path / "fresh")
    for again in (source.read(ids), fresh.read(ids)):
        np.testing.assert_array_equal(signal(first), signal(again))
        for field in ("features", "y", "patient"):
            np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
        assert (again.patients, again.persons, again.excluded) == (first.patients, first.persons, first.excluded)
    assert fresh.patients() == source.patients()


def test_some_are_read_as_among_all(source: Source) -> None:
    patients = source.patients()
    whole = source.read([item.id for item in patients])
    for item in patients[:2]:
        alone = source.read([item.id])
        mine = whole.take(whole.patient == whole.patients.index(item.id))
        np.testing.assert_array_equal(signal(alone), signal(mine))
        np.testing.assert_array_equal(alone.features, mine.features)
        np.testing.assert_array_equal(alone.y, mine.y)
        assert alone.patients == (item.id,)


@pytest.mark.parametrize("scheme", ["natural", "even"])
def test_no_one_stands_in_two_splits_or_at_two_hospitals(source: Source, scheme: str) -> None:
    run = config.parse_config({"sites": {"scheme": scheme, "count": 1}})
    if scheme == "natural" and any(item.site is None for item in source.patients()):
        with pytest.raises(ConfigError, match="has no hospitals"):
            datasets.assign_hospitals(source, run)
        return
    dealt, remaining, dropped = datasets.assign_hospitals(source, run)
    sites = {item.site for item in source.patients()} if scheme == "natural" else {"hospital-1"}
    assert (set(dealt), dropped) == (sites, 0)
    for site, ids in dealt.items():
        cohort = source.read(ids)
        done = splits.assign_split(cohort, [item for item in remaining if item.id in ids], run.sites, run.seed, site)
        owners = [{done.persons[i] for i in np.unique(done.part(name).patient)} for name in ("train", "test")]
        assert owners[0]
        assert owners[1] or done.people() < 4
        assert not owners[0] & owners[1]


def test_the_task_does_not_depend_on_the_folder(source: Source) -> None:
    assert Source(source.module, source.options, Path("/nowhere"), Path("/nowhere")).task() == source.task()
    again = type(source.options).model_validate(source.options.model_dump())
    assert source.module.task(again).fingerprint() == source.task().fingerprint()


def test_a_missing_folder_is_named(source: Source, tmp_path: Path) -> None:
    lost = Source(source.module, source.options, tmp_path / "lost", source.store)
    with pytest.raises(DataError, match=f"no data folder {tmp_path / 'lost'}"):
        lost.patients()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=str(tmp_path / "empty")) as caught:
        Source(source.module, source.options, tmp_path / "empty", source.store).patients()
    assert "\n" not in str(caught.value)


def test_what_names_no_data_asks_for_them() -> None:
    for name in sorted(set(GENERATED) & set(datasets.dataset_names())):
        with pytest.raises(ConfigError, match=rf"data\.path: name the folder of {name}") as caught:
            datasets.open_source(config.parse_config({"data": {"dataset": name}}), None)
        options = datasets.plugins.load_plugin("sites.datasets", "CARD", name, "data set").Options
        assert ("simulated=true for SYNTHETIC data" in str(caught.value)) == ("simulated" in options.model_fields)


def test_nothing_to_read_is_an_error_of_ours(source: Source) -> None:
    with pytest.raises(DataError, match=r"no (recordings|examples)"):
        source.read([])


def test_one_hospitals_folder_is_read_as_that_hospital(hospitals: Path, store: Path) -> None:
    options = synthetic.Options()
    alone = synthetic.patients(hospitals / "south", options, store)
    among = [item for item in synthetic.patients(hospitals, options, store) if item.site == "south"]
    assert [(item.id, item.examples) for item in alone] == [(item.id, item.examples) for item in among]
    assert {item.site for item in alone} == {None}
    ids = [item.id for item in alone]
    one = synthetic.read(hospitals / "south", options, ids, store)
    other = synthetic.read(hospitals, options, ids, store)
    np.testing.assert_array_equal(one.x, other.x)


def test_hospitals_are_generated_where_no_folder_is_named(tmp_path: Path) -> None:
    raw = {"seed": 3, "data": {"cache": str(tmp_path), "options": {"hospitals": 2, "patients": 2, "minutes": 0.2}}}
    run = config.parse_config(raw)
    source = datasets.open_source(run, None)
    assert source.folder.parent == tmp_path
    assert source.store == tmp_path / "synthetic"
    assert {item.site for item in source.patients()} == {"north", "south"}
    stamp = (source.folder / "north" / "RECORDS").stat().st_mtime_ns
    again = datasets.open_source(run, None)
    assert (again.folder / "north" / "RECORDS").stat().st_mtime_ns == stamp
    other = datasets.open_source(run.model_copy(update={"seed": 4}), None)
    assert other.folder != source.folder


def test_a_hospital_opens_its_own_folder_and_cache_whatever_the_run_says(hospitals: Path) -> None:
    run = config.parse_config({"data": {"path": "/etc", "cache": "/etc/cache"}})
    source = datasets.open_source(run, hospitals / "north")
    assert source.folder == hospitals / "north"
    assert source.store == cache.cache_folder() / "synthetic"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"dataset": "mitbih"}, "no data set named 'mitbih': choose one of "),
        ({"dataset": "mitdb"}, "data.path: name the folder of mitdb"),
        ({"dataset": "mitdb", "options": {"lead": 1}}, "data.options of mitdb: unknown key lead (did you mean leads?)"),
        ({"dataset": "synthetic", "options": {"minutes": 0.01}}, "data.options of synthetic: minutes: "),
        ({"dataset": "generator"}, "no data set named 'generator'"),
    ],
)
def test_a_wrong_data_set_or_option_is_named(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        datasets.open_source(config.parse_config({"data": raw}), None)
    assert str(caught.value).startswith(said)


def test_a_data_set_that_gives_a_person_to_two_hospitals_is_refused(tmp_path: Path) -> None:
    class Leaky:
        CARD = mitdb.CARD

        @staticmethod
        def patients(folder: Path, options: object, store: Path) -> list[Patient]:
            return [Patient(site, "same", (1, 1), site=site) for site in ("north", "south")]

    with pytest.raises(LeakError, match="at north and at south"):
        datasets.assign_hospitals(Source(Leaky, None, tmp_path, tmp_path), RunConfig())


def test_generated_hospitals_carry_their_mark_into_the_cohort(hospitals: Path, store: Path) -> None:
    assert (hospitals / generator.MARKER).is_file()
    ids = list(recordings.recording_names(hospitals / "north"))
    assert mitdb.read(hospitals / "north", Options(), ids, store).synthetic
