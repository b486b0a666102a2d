"""Random faults on every part of a federation of real processes: each run ends right, or is resumed and ends right.

20 faults; 200 with WARDROUND_FAULTS=long, or as many as WARDROUND_FAULT_COUNT says, drawn from WARDROUND_FAULT_SEED.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faults.deployment import PARTS, RUNS, Deployment
from tests.faults.injection import KINDS, Kind, build_clock_library, deployed, draw_faults, small_disks
from tests.faults.trial import Record, carry_out, check_charges, check_hospital, check_server, run_unbroken

LONG = os.environ.get("WARDROUND_FAULTS") == "long"
COUNT = int(os.environ.get("WARDROUND_FAULT_COUNT", 200 if LONG else 20))
SEED = int(os.environ.get("WARDROUND_FAULT_SEED", 14))
RUN_FAULTS = 10
"""Faults of one run at most, so that each kind of run has some."""


def test_faults_hit_every_part_and_are_of_every_kind() -> None:
    faults = draw_faults(SEED, 20)
    assert {fault.part for fault in faults if fault.kind == "kill"} == set(PARTS)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert draw_faults(SEED, 20) == faults
    assert len(draw_faults(SEED, 200)) == 200


@pytest.mark.processes
@pytest.mark.slow
def test_every_run_ends_right_whatever_fails(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    library = build_clock_library(tmp_path)
    expected = {name: run_unbroken(raw, tmp_path / f"unbroken-{name}") for name, raw in RUNS.items()}
    with small_disks(tmp_path / "deployment") as has_disks:
        missing = [kind for kind, there in (("clock", library), ("full", has_disks)) if not there]
        kinds = tuple(kind for kind in KINDS if kind not in missing)
        if missing:
            print(f"no faults of the kinds {missing}: they need a C compiler, and root")
        carry_out_all(Deployment(tmp_path / "deployment", clock_library=library), kinds, expected)


def carry_out_all(deployment: Deployment, kinds: tuple[Kind, ...], expected: Mapping[str, Mapping[str, Any]]) -> None:
    """Carry out all faults, on one run after another, and check what remains."""
    faults, record, lost_charges = deque(draw_faults(SEED, COUNT, kinds)), Record(), 0
    with deployed(deployment):
        while faults:
            name = sorted(RUNS)[record.runs % 2]
            own = deque(faults.popleft() for _ in range(min(RUN_FAULTS, len(faults))))
            folder = carry_out(deployment, RUNS[name], own, record, expected[name])
            faults.extendleft(reversed(own))  # what did not come to pass before the run's end
            if name == "private":
                lost_charges += sum(check_charges(deployment, site, folder) for site in deployment.names)
            shutil.rmtree(folder.parent)  # the runs' small disk holds some twenty of them
    for site in deployment.names:
        check_hospital(deployment, site)
    check_server(deployment)
    kinds_text = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(f.kind for f in record.faults).items()))
    record.note(
        f"{len(record.faults)} faults ({kinds_text}) on {record.runs} runs, resumed {record.resumes} times; "
        f"{lost_charges} rounds charged again, no charge lost"
    )
    assert len(record.faults) == COUNT
