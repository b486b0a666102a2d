"""What looks wrong in a described table: leaks, units that differ, people at two hospitals, small hospitals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.datasets.table.columns import NumberColumn
from sites.datasets.table.description import Description
from sites.datasets.table.examine import Table
from sites.datasets.table.files import (
    check_file_names,
    file_title,
    is_parquet,
    iterate_batches,
    refuse_rounded_numbers,
)
from sites.datasets.table.known import choose_unit
from sites.person_units import find_factors
from sites.spellings import check_hospitals, check_patients, count_perhaps_alike, find_perhaps_alike_hospitals

LEAK_AUROC = 0.985
"""An input that alone separates the outcome so well is probably known only after it."""
LEAK_MISSING = 0.95
UNIT_RATIO = 2.5
"""A hospital's median so many times that of the others is probably in another unit."""
UNIT_SPREAD, UNIT_TOLERANCE = (10, 50, 90), 0.1
"""Percentiles of a hospital's usual values, and how close (as a logarithm) a ratio of medians is to a unit's factor."""
MIN_SHARES, SHARE_GAP = 5, 5.0
"""Numbers that may be shares among percentages: how many, and how far the largest must be from the percentages."""
MIN_PATIENTS = 20
MIN_EVENTS = 5
Numbers = npt.NDArray[np.float64]


def add_suspicions(table: Table, description: Description) -> None:
    """Add to a table's findings what looks wrong in it, by the roles that a description gives its columns."""
    hospital = _hospital_codes(table, description)
    outcome = table.columns[description.outcome.column]
    positions = outcome.positions([(value,) for value in description.outcome.values])
    if (lost := int((positions == -1).sum())) > 0:
        table.say("note", description.outcome.column, f"missing in {lost} rows, which are not used")
    _check_spellings(table, description, hospital)
    _check_patients(table, description, hospital)
    _check_hospitals(table, description, hospital, positions)
    for item in description.inputs:
        name = item.source
        column = table.columns[name]
        values = table.numbers(name) if item.kind == "number" else None
        ranked = values if values is not None else column.codes.astype(np.float64)
        _check_leak(table, name, ranked, positions,
                    ordered=values is not None)  # fmt: skip
        _check_missing(table, name, column.present, hospital, positions)
        if values is not None:
            _check_units(table, name, values, hospital)
            _check_shares(table, name, values)
    _check_copies(table)


def _hospital_codes(table: Table, description: Description) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    read = description.read
    if read.hospital is not None:
        column = table.columns[read.hospital]
        return column.codes.astype(np.int64), column.values
    if read.hospital_from == "file":
        return table.file, tuple(file_title(Path(name)) for name in table.reading.files)
    return np.zeros(table.rows, np.int64), ("the hospital",)


def _check_spellings(
    table: Table, description: Description, hospital: tuple[npt.NDArray[np.int64], tuple[str, ...]]
) -> None:
    """Report what reading the table will refuse: files of one name, patients and hospitals in two spellings."""
    codes, names = hospital
    folder = table.path if table.path.is_dir() else table.path.parent
    try:
        check_file_names(folder, [folder / name for name in table.reading.files], description)
        check_hospitals("hospitals", names)
        if description.patient is not None:
            column = table.columns[description.patient]
            pairs = np.unique(np.stack([column.codes, codes])[:, column.present], axis=1)
            texts = column.values
            for path in (folder / name for name in table.reading.files):
                if is_parquet(path):
                    for batch in iterate_batches(path, table.reading, [description.patient]):
                        refuse_rounded_numbers(path, description.patient, batch.column(0))
            check_patients("patients", [texts[i] for i in pairs[0]], pairs[1])
    except DataError as error:
        table.say("wrong", "", str(error))


def _check_patients(
    table: Table, description: Description, hospital: tuple[npt.NDArray[np.int64], tuple[str, ...]]
) -> None:
    if description.patient is None:
        return
    column = table.columns[description.patient]
    present = column.present
    if lost := int((~present).sum()):
        table.say("check", description.patient, f"missing in {lost} rows, which are not used")
    if alike := count_perhaps_alike(column.values):
        table.say("check", description.patient, f"{alike} names differ only in signs, zeros or 'copy' from another's: "
                  "are they of one person?")  # fmt: skip
    pairs = np.unique(np.stack([column.codes[present], hospital[0][present]]), axis=1)
    shared = int((np.bincount(pairs[0]) > 1).sum()) if pairs.size else 0
    if shared:
        table.say(
            "wrong", description.patient, f"{shared} patients are at more than one hospital: if they are different "
            "people with one number, put the hospital before the number; if not, keep each at one hospital",
        )  # fmt: skip


def _check_hospitals(
    table: Table,
    description: Description,
    hospital: tuple[npt.NDArray[np.int64], tuple[str, ...]],
    positions: npt.NDArray[np.int32],
) -> None:
    codes, names = hospital
    column = description.read.hospital or ""
    if lost := int((codes < 0).sum()):
        table.say("check", column, f"missing in {lost} rows, which are not used")
    for alike in find_perhaps_alike_hospitals(names)[:5]:
        table.say("check", column, f"{', '.join(alike[:4])} may be one hospital: then write it in one way")
    who = table.columns[description.patient].codes if description.patient else np.arange(table.rows)
    for i, name in enumerate(names):
        own = (codes == i) & (positions >= 0)
        people = len(np.unique(who[own]))
        if people < MIN_PATIENTS:
            table.say("check", "", f"{name}: fewer than {MIN_PATIENTS} patients with an outcome: by default a hospital "
                      "takes part with 20 training patients or more")  # fmt: skip
            continue
        for value in range(len(description.outcome.values)):
            if len(np.unique(who[own & (positions == value)])) < MIN_EVENTS:
                table.say("check", "", f"{name}: fewer than {MIN_EVENTS} patients of class "
                          f"{description.outcome.names[value]}: its figures will be coarse or hidden")  # fmt: skip


def _check_leak(table: Table, name: str, values: Numbers, positions: npt.NDArray[np.int32], *, ordered: bool) -> None:
    """Report an input that separates the outcome nearly perfectly."""
    known = (positions >= 0) & ~np.isnan(values) & ((values >= 0) | ordered)
    if known.sum() < 20 or len(np.unique(positions[known])) < 2:
        return
    x, y = values[known], positions[known]
    if not ordered:
        joint = np.zeros((int(x.max()) + 1, int(y.max()) + 1))
        np.add.at(joint, (x.astype(int), y), 1)
        rows = joint.sum()
        stated, guessed = joint.max(1).sum() / rows, joint.sum(0).max() / rows
        if len(joint) <= 50 and stated > max(LEAK_AUROC, guessed + 0.01):
            table.say("check", name, "its values nearly equal the outcome: is it known only afterwards? If so, "
                      "remove it from the inputs")  # fmt: skip
        return
    from scipy.stats import rankdata

    event = y == y.max()
    n1, n0 = int(event.sum()), int((~event).sum())
    if not n1 or not n0:
        return
    auroc = (rankdata(x)[event].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)
    if max(auroc, 1 - auroc) > LEAK_AUROC:
        table.say("check", name, "alone it separates the outcome nearly perfectly: is it known only afterwards? If so, "
                  "remove it from the inputs")  # fmt: skip


def _check_missing(
    table: Table,
    name: str,
    present: npt.NDArray[np.bool_],
    hospital: tuple[npt.NDArray[np.int64], tuple[str, ...]],
    positions: npt.NDArray[np.int32],
) -> None:
    if present.all():
        return
    codes, names = hospital
    nowhere = [names[i] for i in range(len(names)) if (codes == i).any() and not present[codes == i].any()]
    if nowhere and len(names) > 1:
        table.say("check", name, f"never measured at {', '.join(nowhere[:5])}")
    known = positions >= 0
    event = positions == positions.max()
    if known.sum() >= 20 and event.any() and (known & ~event).any():
        gap = abs(float(present[event].mean()) - float(present[known & ~event].mean()))
        if gap > LEAK_MISSING:
            table.say("check", name, "whether it is measured nearly equals the outcome: is it filled in only "
                      "afterwards? If so, remove it from the inputs")  # fmt: skip


def _check_units(
    table: Table, name: str, values: Numbers, hospital: tuple[npt.NDArray[np.int64], tuple[str, ...]]
) -> None:
    """Report a hospital whose median is far from the others', or plausible only in another unit."""
    codes, names = hospital
    medians = {}
    for i, label in enumerate(names):
        own = values[(codes == i) & ~np.isnan(values)]
        if len(own) >= 5:
            medians[label] = float(np.median(own))
    if len(medians) < 2:
        return
    units = {label: choose_unit(name, median) for label, median in medians.items()}
    named = {label: unit.name for label, unit in units.items() if unit is not None}
    if len(set(named.values())) > 1:
        usual = max(set(named.values()), key=list(named.values()).count)
        odd = ", ".join(f"{label} in {unit}" for label, unit in named.items() if unit != usual)
        table.say("wrong", name, f"its unit seems to differ: {usual} at most hospitals, {odd}: convert it")
        return
    if odd_hospitals := _differing_by_unit(name, {label: values[codes == names.index(label)] for label in medians}):
        table.say("check", name, f"the values at {', '.join(odd_hospitals[:5])} differ from those of the other "
                  "hospitals by the factor between two units: is the unit the same?")  # fmt: skip
        return
    given = values[~np.isnan(values)]
    if np.quantile(given, 0.01) <= 0:  # values around 0 have no ratio
        return
    far = []
    for label, median in medians.items():
        others = float(np.median([value for other, value in medians.items() if other != label]))
        if max(median / others, others / median) > UNIT_RATIO:
            far.append(f"{median / others:.2g} times at {label}")
    if far:
        table.say("check", name, f"the median differs from that of the other hospitals ({', '.join(far[:5])}): is the "
                  "unit the same?")  # fmt: skip


def _check_shares(table: Table, name: str, values: Numbers) -> None:
    """Report numbers up to 1 that, a hundred times as large, are like all others: shares among percentages."""
    given = values[~np.isnan(values)]
    shares, others = given[given <= 1], given[given > 1]
    if len(shares) < MIN_SHARES or len(others) < len(shares) or shares.min() <= 0 or (shares % 1 == 0).any():
        return
    if (
        others.min() > SHARE_GAP * shares.max()
        and ((100 * shares >= others.min()) & (100 * shares <= others.max())).all()
    ):
        table.say("check", name, f"{len(shares)} numbers are a hundredth of the size of the others: are they shares, "
                  "and the others percentages?")  # fmt: skip


def _differing_by_unit(name: str, values: dict[str, Numbers]) -> list[str]:
    """Return the hospitals whose usual values do not overlap with all others', but do in another unit."""
    odd: list[str] = []
    ordered = {label: np.sort(own[~np.isnan(own)]) for label, own in values.items()}
    ordered = {label: own for label, own in ordered.items() if np.isfinite(own).sum() >= MIN_PATIENTS}
    if len(ordered) < 2:
        return odd
    whole = np.sort(np.concatenate(list(ordered.values())))
    for label, own in ordered.items():
        low, middle, high = np.percentile(own, UNIT_SPREAD)
        other_low, other_middle, other_high = compute_percentiles_without(whole, own, UNIT_SPREAD)
        if min(middle, other_middle) <= 0 or (low <= other_high and other_low <= high):
            continue
        ratio = np.log(middle / other_middle)
        if any(abs(ratio - np.log(factor)) < UNIT_TOLERANCE for factor in find_factors(name)):
            odd.append(label)
    return odd


def compute_percentiles_without(whole: Numbers, part: Numbers, percentiles: Sequence[float]) -> Numbers:
    """Return the percentiles of the values of `whole` without those of `part`; both are in order.

    >>> compute_percentiles_without(np.asarray([1.0, 2.0, 2.0, 3.0, 7.0]), np.asarray([2.0, 7.0]), [0, 50, 75]).tolist()
    [1.0, 2.0, 2.5]
    """
    ranks = np.arange(len(part))
    positions = np.searchsorted(whole, part) + ranks - np.searchsorted(part, part)  # of the part's values in the whole
    exact = np.asarray(percentiles) / 100 * (len(whole) - len(part) - 1)
    below = np.floor(exact).astype(np.int64)
    above = np.minimum(below + 1, len(whole) - len(part) - 1)
    low, high = (whole[rank + np.searchsorted(positions - ranks, rank, side="right")] for rank in (below, above))
    return np.asarray(low + (high - low) * (exact - below))


def _check_copies(table: Table) -> None:
    """Report rows that are equal in every column, by a 64-bit digest of each row."""
    digest = np.zeros(table.rows, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in table.columns.values():
            if isinstance(column, NumberColumn):
                own = np.where(column.present, column.held + 0.0, np.nan).view(np.uint64)
            else:
                own = column.codes.astype(np.int64).view(np.uint64)
            digest = (digest ^ own) * np.uint64(0x9E3779B97F4A7C15)
            digest ^= digest >> np.uint64(29)
    if copies := table.rows - len(np.unique(digest)):
        table.say("check", "", f"{copies} rows are copies of another row in every column")
