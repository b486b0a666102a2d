"""Training patients' records, changed once at the hospital before any model that is not private sees them.

Private runs learn from replaced outcomes too, unless the hospital's policy demands privacy.

Every weight that a server sends, and every update that it gets back, is then a function of changed records alone. No
choice of weights, steps or number of rounds brings out more than them, because a record is changed in the same way for
every request: averaging over requests gives the changed record and not the patient's own (as memoised answers in
randomised response do: Erlingsson, Pihur and Korolova 2014, arXiv:1407.6981).

- A number gets Gaussian noise with a multiple of the input's standard deviation over the hospital's training patients.
  A patient's rows share one noise, and each row has another of the same size; a missing value becomes the mean first,
  except for trees, which learn a side for it.
- An outcome, and a value of an input that has few values (yes/no, categories), is replaced by another one, each as
  likely, with a fixed probability (randomised response: Warner 1965, doi:10.1080/01621459.1965.10480775). It is drawn
  once for all rows of a patient if these agree, else for each row.

The loss knows how outcomes were replaced (client/training/losses.py), so that a model's probabilities stay right.

All draws come from the register's secret, the patient's name and the values themselves, so that the same record is
always changed in the same way, whatever is asked, and an altered one anew. Where all rows of a patient agree, their
number does not count, and of outcomes the outcome itself does not either: else each way to cut or to label a patient's
recordings (`data.options`) would be one more draw of the same outcome, and most of a few draws are right.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sites.cohort import Cohort, Windows

FEW_VALUES = 10
"""An input with at most so many values at a hospital is a category."""

Floats = npt.NDArray[np.float32]
KeepSpread = Callable[[str, float], float]
"""From an input's name and the size of its noise now to the size that the hospital uses (`Register.keep_spread`)."""
_Draws = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]
_last: list[tuple[Cohort, tuple[bytes, float, float, bool, bool, bool], Cohort]] = []
"""The last cohorts that were changed, and what became of them: each round of a run asks for the same two."""


def change_records(
    cohort: Cohort,
    secret: bytes,
    noise: float,
    share: float,
    *,
    fill: bool = True,
    inputs: bool = True,
    keep: KeepSpread | None = None,
) -> Cohort:
    """Return the cohort with changed inputs and outcomes.

    Args:
        cohort: training examples, with inputs in their own units, not scaled: noise that depended on a scaling would
            show the value behind two of them.
        secret: the register's.
        noise: standard deviation of the noise on numbers, in standard deviations of the input.
        share: probability that an outcome or a category is replaced.
        fill: whether a missing number becomes the mean before; never for reconstructions, which leave it out.
        inputs: whether inputs are changed, or outcomes alone.
        keep: gives the size of an input's noise that is kept; default: the size of these patients.
    """
    fill = fill and not cohort.task.anomaly
    wanted = secret, noise, share, fill, inputs, keep is not None
    for earlier, how, done in _last:
        if earlier is cohort and how == wanted:
            return done
    if not len(cohort.y) or (noise <= 0 and share <= 0):
        return cohort
    rows = _RowsOfPeople.from_cohort(cohort, secret, keep)
    features, x = cohort.features, cohort.x
    if inputs:
        names = [f"feature {name}" for name in cohort.task.features]
        features = _change_columns(features, names, rows, noise, share, fill=fill)
        if isinstance(x, Windows):
            x = _change_windows(x, cohort, rows, noise, share, fill=fill)
        else:
            x = _change_signals(x, rows, noise)
    y = cohort.y
    if not cohort.task.anomaly:
        labels = y if y.ndim > 1 else y[:, None]
        classes = 2 if y.ndim > 1 else len(cohort.task.classes)
        replaced = [
            _replace_values(labels[:, column], classes, f"outcome {column}", rows, share)
            for column in range(labels.shape[1])
        ]
        y = np.stack(replaced, axis=1).reshape(y.shape)
    done = replace(cohort, x=x, features=features, y=y)
    _last[:] = [*_last[-1:], (cohort, wanted, done)]
    return done


@dataclass(frozen=True)
class _RowsOfPeople:
    """Rows by person.

    Attributes:
        secret: the register's.
        order: the rows, person by person and in their own order, `(rows,)`.
        start: where each person's rows start in `order`, and their number last, `(people + 1,)`.
        names: each person's name.
        keep: gives the size of an input's noise that is kept, or None.
    """

    secret: bytes
    order: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    names: Sequence[bytes]
    keep: KeepSpread | None

    @classmethod
    def from_cohort(cls, cohort: Cohort, secret: bytes, keep: KeepSpread | None) -> _RowsOfPeople:
        return cls.from_persons(np.asarray(cohort.persons, dtype=object)[cohort.patient], secret, keep)

    @classmethod
    def from_persons(
        cls, persons_of_rows: npt.NDArray[np.object_], secret: bytes, keep: KeepSpread | None
    ) -> _RowsOfPeople:
        names, person = np.unique(persons_of_rows, return_inverse=True)
        start = np.concatenate([[0], np.cumsum(np.bincount(person, minlength=len(names)))])
        return cls(secret, np.argsort(person, kind="stable"), start, [str(name).encode() for name in names], keep)

    @property
    def person_index(self) -> npt.NDArray[np.int64]:
        """The person of each of the ordered rows, `(rows,)`."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.start))

    def draw(self, what: str, values: npt.NDArray[np.generic], own: int, each: int) -> _Draws:
        """Return random numbers of each person `(people, own)`, and of each ordered row `(rows, each)`.

        Args:
            what: the purpose; other purposes have other numbers.
            values: the people's values, by ordered row; other values have other numbers, but not the same value in more
                rows.
            own: numbers of a person.
            each: numbers of a row.
        """
        parts = []
        plain = np.ascontiguousarray(values)
        for number, name in enumerate(self.names):
            first, last = self.start[number], self.start[number + 1]
            # SHAKE256 (FIPS 202) of a secret and a message is a pseudorandom function; lengths part the fields
            head = f"changed record:{len(what)}:{what}:{len(name)}:".encode()
            content, row = plain[first:last].tobytes(), plain[first : first + 1].tobytes()
            if content == row * int(last - first):  # a view of the data with other rows would be a second draw
                content = row
            stream = hashlib.shake_256(self.secret + head + name + content)
            parts.append(stream.digest(4 * (own + each * int(last - first))))
        flat = np.frombuffer(b"".join(parts), np.uint32)
        size = own + each * np.diff(self.start)
        offset = np.concatenate([[0], np.cumsum(size)[:-1]])
        personal = flat[offset[:, None] + np.arange(own)]
        person_index = self.person_index
        position = np.arange(len(self.order)) - self.start[person_index]
        single = flat[(offset[person_index] + own + position * each)[:, None] + np.arange(each)]
        return personal, single


def _change_columns(
    values: Floats, names: Sequence[str], rows: _RowsOfPeople, noise: float, share: float, *, fill: bool
) -> Floats:
    """Return a table `(rows, columns)` with each column changed; `fill`: missing numbers become the mean first."""
    changed = values.copy()
    for column, name in enumerate(names):
        here = np.unique(values[:, column], equal_nan=True)
        if len(here) <= FEW_VALUES:
            index = np.searchsorted(here, values[:, column])  # NaN is sorted last
            changed[:, column] = here[_replace_values(index, len(here), name, rows, share, values[:, column])]
        else:
            changed[:, column] = _add_noise(values[:, column, None], name, rows, noise, fill=fill)[:, 0]
    return changed


def _change_windows(
    windows: Windows, cohort: Cohort, examples: _RowsOfPeople, noise: float, share: float, *, fill: bool
) -> Windows:
    """Return windows over changed rows: each row is changed once, in whichever windows it lies."""
    first = np.unique(windows.first)
    # rows of others stay as they are: no window of this cohort covers them
    last = np.zeros(len(first), np.int64)
    np.maximum.at(last, np.searchsorted(first, windows.first), windows.end)
    persons = np.asarray(cohort.persons, dtype=object)[cohort.patient]
    person_by_first_row = dict(zip(windows.first.tolist(), persons.tolist(), strict=True))
    used = np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)])
    persons_of_rows = np.repeat(
        np.array([person_by_first_row[a] for a in first.tolist()], dtype=object), last - first + 1
    )
    rows = _RowsOfPeople.from_persons(persons_of_rows, examples.secret, examples.keep)
    names = [f"channel {number}" for number in range(windows.rows.shape[1])]
    table = windows.rows.copy()
    table[used] = _change_columns(windows.rows[used], names, rows, noise, share, fill=fill)
    return replace(windows, rows=table)


def _change_signals(x: Floats, rows: _RowsOfPeople, noise: float) -> Floats:
    """Return signals `(examples, channels, samples)` with noise on each channel."""
    changed = x.copy()
    for channel in range(x.shape[1]):
        changed[:, channel] = _add_noise(x[:, channel], f"channel {channel}", rows, noise, fill=False)
    return changed


def _add_noise(values: Floats, name: str, rows: _RowsOfPeople, noise: float, *, fill: bool) -> Floats:
    """Return `(rows, width)` with noise of the people, and of the rows of people who have several."""
    spread = _round_to_steps(noise * float(np.nanstd(values.astype(np.float64)))) if np.isfinite(values).any() else 0.0
    if spread <= 0:
        return values
    if rows.keep is not None:
        spread = rows.keep(name, spread)
    width = values.shape[1]
    ordered = values[rows.order]
    # the size of the noise is part of what is drawn from: one draw in two sizes would show the value
    personal, single = rows.draw(f"{name} at {spread!r}", ordered, width, width)
    person_index = rows.person_index
    several = (np.diff(rows.start) > 1)[person_index]
    total = _to_normal(personal)[person_index]
    total[several] += _to_normal(single[several])
    plain = ordered.astype(np.float64)
    if fill:
        plain = np.where(np.isnan(plain), np.nanmean(values.astype(np.float64)), plain)
    changed = np.empty_like(values)
    changed[rows.order] = plain + spread * total
    return changed


def _replace_values(
    index: npt.NDArray[np.int64],
    count: int,
    name: str,
    rows: _RowsOfPeople,
    share: float,
    values: npt.NDArray[np.generic] | None = None,
) -> npt.NDArray[np.int64]:
    """Return numbers of values `(rows,)`, each of 0 to `count` - 1, some replaced by another.

    What is drawn depends on a patient's own `values` alone, and not on which other values there are. Without `values`,
    for outcomes: if a patient's rows agree, it depends on the patient alone, so that another name of the same outcome,
    such as abnormal for not normal, is replaced along with it.
    """
    if count < 2 or share <= 0:
        return index
    ordered = index[rows.order]
    person_index = rows.person_index
    low = np.minimum.reduceat(ordered, rows.start[:-1])
    one_value = (low == np.maximum.reduceat(ordered, rows.start[:-1]))[person_index]
    drawn_from = np.where(one_value, 0, ordered) if values is None else values[rows.order]
    personal, single = rows.draw(f"{name} {share!r}", drawn_from, 2, 2)
    drawn = _to_uniform(np.where(one_value[:, None], personal[person_index], single))
    other = (ordered + 1 + np.minimum((drawn[:, 1] * (count - 1)).astype(np.int64), count - 2)) % count
    replaced = np.empty_like(index)
    replaced[rows.order] = np.where(drawn[:, 0] < share, other, ordered)
    return replaced


def _round_to_steps(spread: float) -> float:
    """Return the nearest power of the root of 2, so that a few other patients seldom change the size of the noise.

    >>> _round_to_steps(0.9), _round_to_steps(2.0), _round_to_steps(0.0)
    (1.0, 2.0, 0.0)
    """
    return float(2.0 ** (round(2 * math.log2(spread)) / 2)) if spread > 0 else 0.0


def _to_uniform(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    return (bits.astype(np.float64) + 0.5) / 2.0**32


def _to_normal(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    import torch

    return np.asarray(torch.special.ndtri(torch.from_numpy(_to_uniform(bits))).numpy())
