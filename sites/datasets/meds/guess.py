"""Guessing the description of a MEDS extract from its codes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import DataError
from sites.datasets.meds.description import (
    Description,
    Index,
    Input,
    Outcome,
    Reading,
    Sex,
    Summary,
    input_name,
    matches,
)
from sites.datasets.meds.examples import build_examples
from sites.datasets.meds.extract import LABEL_COLUMNS, NO_TIME, SPLIT_FILE, read_events, read_labels
from sites.datasets.table.examine import Finding

MAX_INPUTS = 100
MAX_NAMES = 5
"""Names of codes in one finding."""
MIN_PEOPLE = 20
"""Fewest people of a code that becomes an input."""
NUMERIC_SHARE = 0.5
"""Share of a code's events with a number from which on its values are used."""
_ADMISSION = re.compile(r"(HOSPITAL_ADMISSION|ICU_ADMISSION|ADMISSION|Visit|VISIT|ENCOUNTER|Encounter)\b.*")
_DEATH = re.compile(r"MEDS_DEATH|.*(DEATH|Death).*")
_SEX = re.compile(r"(GENDER|SEX|Gender|Sex)//(?P<value>.+)")
_HOSPITAL = re.compile(r"(hospital|site|care_site|center|centre)(_?id)?", re.IGNORECASE)


@dataclass
class Codes:
    """What an extract holds.

    Attributes:
        people: number of people with each code.
        numbers: number of events with a value, by code.
        events: number of events, by code.
        untimed: number of events without a time, by code.
        total: number of people.
        findings: what should be looked at.
    """

    people: Counter[str] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    untimed: Counter[str] = field(default_factory=Counter)
    total: int = 0
    findings: list[Finding] = field(default_factory=list)

    def say(self, level: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, "", text))


def is_extract(folder: Path) -> bool:
    """Return whether a folder looks like a MEDS extract: `data/` with Parquet files of events."""
    if not (folder / "data").is_dir():
        return False
    shard = next((path for path in sorted((folder / "data").rglob("*.parquet"))), None)
    if shard is None:
        return False
    from pyarrow import ArrowException, parquet

    try:
        names = parquet.read_schema(str(shard)).names
    except (OSError, ArrowException):
        return False
    return {"subject_id", "time", "code"} <= set(names)


def guess_description(
    folder: Path, *, outcome: str | None = None, hospital: str | None = None
) -> tuple[Description, Codes]:
    """Return a description of an extract, and its codes.

    Args:
        folder: the extract.
        outcome: the code of the event; none: a label table, or the death.
        hospital: the column of the hospital; none: guessed.

    Raises:
        DataError: the codes are not those of an extract with something to predict.
    """
    shards = sorted((folder / "data").rglob("*.parquet"))
    codes = _count_codes(shards)
    hospital = hospital or _guess_hospital(shards)
    labels = None if outcome else _find_labels(folder)
    read = Reading(hospital=hospital, labels=labels)
    if not (folder / SPLIT_FILE).is_file():
        codes.say("note", "no metadata/subject_splits.parquet: people are split by the run's seed")
    index = None if labels else _guess_index(folder, codes)
    target = _guess_outcome(folder, codes, outcome, labels)
    sex = _guess_sex(codes)
    birth = "MEDS_BIRTH" if codes.people["MEDS_BIRTH"] else None
    used = (*target.codes, birth or "", *(sex.female + sex.male if sex else ()), *(index.codes if index else ()))
    inputs = _choose_inputs(codes, used)
    if not inputs:
        raise DataError(f"{folder}: no code is recorded for {MIN_PEOPLE} people: too few to learn from")
    title = f"MEDS extract in {folder.resolve().name}"
    described = Description(title=title, read=read, index=index, outcome=target, birth=birth, sex=sex, inputs=inputs)
    return described.model_copy(update={"inputs": _select_recorded(folder, described, codes)[:MAX_INPUTS]}), codes


def _select_recorded(folder: Path, described: Description, codes: Codes) -> tuple[Input, ...]:
    """Return the inputs that are recorded before the predictions of at least `read.min_people` people.

    Codes such as of the discharge are common and never there in time. Where no example can be made all inputs stay.
    """
    try:
        examples = build_examples(folder, described)
    except DataError as error:
        codes.say("check", str(error))
        return described.inputs
    recorded: list[Input] = []
    late: list[Input] = []
    column = len(described.feature_names) - sum(len(item.summaries) for item in described.inputs)
    for item in described.inputs:
        values = np.nan_to_num(examples.features[:, column : column + len(item.summaries)], nan=0.0)
        if "count" not in item.summaries:
            values = ~np.isnan(examples.features[:, column : column + len(item.summaries)])
        people = len(np.unique(examples.subject[values.any(axis=1)]))
        (recorded if people >= described.read.min_people else late).append(item)
        column += len(item.summaries)
    if not recorded:
        codes.say("check", "no code is recorded in time for a prediction: correct index, window_hours and the inputs")
        return described.inputs
    if late:
        few = f"fewer than {described.read.min_people} people have them before a prediction"
        names = ", ".join(item.name for item in late[:MAX_NAMES]) + (" and others" if len(late) > MAX_NAMES else "")
        codes.say("note", f"{len(late)} codes are no inputs, because {few}: {names}")
    return tuple(recorded)


def _count_codes(shards: list[Path]) -> Codes:
    codes = Codes()
    for path in shards:
        events = read_events(path, None)
        pairs = np.unique(np.stack([events.subject, events.code.astype(np.int64)]), axis=1)
        count = len(events.codes)
        for counter, chosen in (
            (codes.people, pairs[1]),
            (codes.events, events.code),
            (codes.numbers, events.code[~np.isnan(events.value)]),
            (codes.untimed, events.code[events.time == NO_TIME]),
        ):
            counter.update(dict(zip(events.codes, np.bincount(chosen, minlength=count).tolist(), strict=True)))
        codes.total += len(np.unique(events.subject))
    return codes


def _guess_hospital(shards: list[Path]) -> str | None:
    from pyarrow import parquet

    names = [name for name in parquet.read_schema(str(shards[0])).names if _HOSPITAL.fullmatch(name)]
    return names[0] if names else None


def _find_labels(folder: Path) -> str | None:
    """Return the file or folder of labels in the form of MEDS, if the extract holds one."""
    from pyarrow import ArrowException, parquet

    for path in sorted(folder.rglob("*.parquet")):
        inner = path.relative_to(folder)
        if inner.parts[0] in ("data", "metadata"):
            continue
        try:
            names = set(parquet.read_schema(str(path)).names)
        except (OSError, ArrowException):
            continue
        if {"subject_id", "prediction_time"} <= names and names & set(LABEL_COLUMNS):
            return inner.parts[0] if len(inner.parts) > 1 else inner.name
    return None


def _guess_index(folder: Path, codes: Codes) -> Index:
    admissions = [code for code in codes.people if _ADMISSION.fullmatch(code)]
    for start in ("HOSPITAL_ADMISSION", "ICU_ADMISSION", "ADMISSION", "Visit", "VISIT", "ENCOUNTER", "Encounter"):
        if any(code.startswith(start) for code in admissions):
            codes.say("check", f"predicted 24 hours after the first {start} of a person: correct index if not")
            return Index(codes=(f"{start}*",))
    raise DataError(
        f"{folder}: which event makes an example? No code is called like an admission or a visit: write meds.yaml "
        "by hand, or add a table of labels (subject_id, prediction_time, boolean_value)"
    )


def _guess_outcome(folder: Path, codes: Codes, outcome: str | None, labels: str | None) -> Outcome:
    if labels is not None:
        path = folder / labels
        values = sorted(set(read_labels([path] if path.is_file() else sorted(path.rglob("*.parquet"))).value))
        if not 2 <= len(values) <= 50:
            raise DataError(f"{path}: {len(values)} different labels: an outcome has classes, 2 to 50 of them")
        codes.say("note", f"{labels}: its labels are the outcome, at their times of prediction")
        names = ("no event", "event") if values == ["false", "true"] else tuple(f"class {value}" for value in values)
        return Outcome(values=tuple(values), classes=names, title="label")
    if outcome is None:
        outcome = next((code for code in sorted(codes.people) if _DEATH.fullmatch(code)), None)
        if outcome is None:
            raise DataError(f"{folder}: which code is the outcome? Name it with --outcome CODE (no code of a death)")
        codes.say("check", f"{outcome} within 30 days is taken as the outcome: correct it, or name it with --outcome")
        return Outcome(codes=(outcome,), within_hours=720.0, classes=("survived", "died"), title="death within 30 days")
    if not any(matches((outcome,), code) for code in codes.people):
        raise DataError(f"{folder}: no event has the code {outcome}, which --outcome names")
    return Outcome(codes=(outcome,), within_hours=720.0, title=f"{input_name(outcome)} within 30 days")


def _guess_sex(codes: Codes) -> Sex | None:
    words: dict[str, list[str]] = {"f": [], "m": []}
    for code in sorted(codes.people):
        if (match := _SEX.fullmatch(code)) and (first := match["value"].strip().lower()[:1]) in words:
            words[first].append(code)
    return Sex(female=tuple(words["f"]), male=tuple(words["m"])) if words["f"] and words["m"] else None


def _choose_inputs(codes: Codes, used: tuple[str, ...]) -> tuple[Input, ...]:
    """Return the codes that most people have as inputs, twice as many as there may be."""
    common = [
        (code, number)
        for code, number in sorted(codes.people.items(), key=lambda item: (-item[1], item[0]))
        if number >= MIN_PEOPLE and not matches(used, code) and not code.startswith("MEDS_")
        and codes.untimed[code] < codes.events[code]
    ]  # fmt: skip
    if len(common) > MAX_INPUTS:
        codes.say(
            "note", f"{len(common)} codes are recorded for {MIN_PEOPLE} people; the {MAX_INPUTS} commonest are inputs"
        )
    inputs = []
    names: set[str] = set()
    for code, _ in common[: 2 * MAX_INPUTS]:  # some may never be recorded in time
        name = input_name(code)
        while name in names:
            name = f"{name[:50]}~{len(names)}"
        names.add(name)
        numeric = codes.numbers[code] >= NUMERIC_SHARE * codes.events[code]
        summaries: tuple[Summary, ...] = ("last", "mean") if numeric else ("count",)
        inputs.append(Input(name=name, codes=(code,) if name != code else (), summaries=summaries))
    return tuple(inputs)
