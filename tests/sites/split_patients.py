"""Patients and cohorts to be split."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st

from common.sections.data import SitesConfig
from common.settings import validate_settings
from sites.cohort import Patient

few = settings(max_examples=80, deadline=None)


def make_options(**changes: object) -> SitesConfig:
    return validate_settings(SitesConfig, changes, "sites")


def list_patients(examples: Sequence[Sequence[int]], persons: Sequence[str] | None = None) -> list[Patient]:
    return [Patient(f"r{i:03d}", persons[i] if persons else f"r{i:03d}", tuple(row)) for i, row in enumerate(examples)]


@st.composite
def everyone(draw: st.DrawFn) -> list[Patient]:
    """Recordings of three classes; some people have several, some stand on a published side."""
    count = draw(st.integers(1, 30))
    persons = [f"p{draw(st.integers(0, count))}" for _ in range(count)]
    counts = st.tuples(*[st.integers(0, 20)] * 3)
    return [
        Patient(f"r{i:03d}", person, draw(counts), published=draw(st.sampled_from(["train", "test", None])))
        for i, person in enumerate(persons)
    ]
