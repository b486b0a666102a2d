"""The privacy ledger: sums, limits, tampering, crashes, several processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from client.privacy import ledger
from client.privacy.accounting import GaussianSteps, compute_epsilon
from client.privacy.charges import INITIAL_HASH, BudgetSpent, Charge
from client.privacy.data_digest import digest_folder
from client.privacy.ledger import Ledger
from common.errors import DataError

RUN, OTHER = "a" * 32, "b" * 32
STEP = GaussianSteps(0.1, 4.0, 10)


def wanted(round_: int = 1, **more: Any) -> Charge:
    return Charge(**{"run": RUN, "round": round_, "level": "patient", "unit": "person", "units": 50, "spent": STEP,
                     "delta": 1e-5, "accountant": "rdp", **more})  # fmt: skip


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "north" / "privacy.sqlite", "d1")


def test_rounds_runs_and_restarts_add_up(book: Ledger) -> None:
    for number in range(1, 4):
        row = Ledger(book.path, "d1").charge(wanted(number))
    second = Ledger(book.path, "d1").charge(wanted(1, run=OTHER, spent=GaussianSteps(0.2, 6.0, 5)))
    assert row.epsilon == row.epsilon_run == compute_epsilon([GaussianSteps(0.1, 4.0, 30)], 1e-5, "rdp")
    assert second.epsilon_run == compute_epsilon([GaussianSteps(0.2, 6.0, 5)], 1e-5, "rdp")
    assert (
        second.epsilon
        == compute_epsilon([GaussianSteps(0.1, 4.0, 30), GaussianSteps(0.2, 6.0, 5)], 1e-5, "rdp")
        > row.epsilon
    )
    assert [item.number for item in book.rows()] == [1, 2, 3, 4]
    assert book.total(1e-5, "rdp", RUN) == row.epsilon
    assert book.total(1e-5, "rdp") == second.epsilon


def test_a_charge_that_would_overspend_is_refused_and_not_written(book: Ledger) -> None:
    limit = compute_epsilon([GaussianSteps(0.1, 4.0, 20)], 1e-5, "rdp")
    for number in (1, 2):
        book.charge(wanted(number, run_limit=limit))
    with pytest.raises(BudgetSpent, match=r"privacy budget spent: round 3 .* of the run's"):
        book.charge(wanted(3, run_limit=limit))
    with pytest.raises(BudgetSpent, match="of the site's"):
        book.charge(wanted(1, run=OTHER, run_limit=limit, total_limit=limit))
    assert len(book.rows()) == 2
    assert book.charge(wanted(1, run=OTHER, run_limit=limit)).number == 3


def test_charges_of_different_levels_are_refused(book: Ledger) -> None:
    book.charge(wanted(level="record", unit="example"))
    with pytest.raises(BudgetSpent, match="charged per record"):
        book.charge(wanted(2))


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE charges SET sigma = 40.0 WHERE number = 2", "changed at row 2"),
        ("UPDATE charges SET private = 0 WHERE number = 1", "changed at row 1"),
        ("DELETE FROM charges WHERE number = 3", "cut off"),
        ("DELETE FROM charges WHERE number = 2", "changed at row 2"),
        ("DELETE FROM charges", "cut off"),
        ("UPDATE charges SET epsilon = 0.0 WHERE number = 3", "changed at row 3"),
    ],
)
def test_tampering_is_detected(book: Ledger, statement: str, says: str) -> None:
    for number in (1, 2, 3):
        book.charge(wanted(number))
    with sqlite3.connect(book.path) as plain:
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            plain.execute(statement)
        plain.execute("DROP TRIGGER charges_stay")
        plain.execute("DROP TRIGGER charges_last")
        plain.execute(statement)
    plain.close()
    with pytest.raises(DataError, match=says):
        book.rows()
    with pytest.raises(DataError, match=says):
        book.charge(wanted(4))


def test_a_deleted_ledger_is_detected(book: Ledger) -> None:
    book.charge(wanted())
    book.path.unlink()
    with pytest.raises(DataError, match="is gone"):
        book.charge(wanted(2))


def test_an_interrupted_creation_is_completed(book: Ledger) -> None:
    book.path.parent.mkdir(parents=True)
    book.path.touch()
    assert book.charge(wanted()).number == 1
    book.path.write_bytes(b"")
    with pytest.raises(DataError, match="is gone"):
        book.charge(wanted(2))


def test_a_charge_that_the_head_file_lacks_is_accepted(book: Ledger) -> None:
    book.charge(wanted(1))
    old = book.head.read_bytes()
    book.charge(wanted(2))
    book.head.write_bytes(old)  # killed between the commit and the head
    assert len(book.rows()) == 2
    book.head.unlink()
    with pytest.raises(DataError, match=r"head is gone, though 2 rows were charged"):
        book.rows()


@pytest.mark.parametrize("damage", [lambda raw: b"not a database at all" * 100, lambda raw: raw[: len(raw) // 2]])
def test_a_damaged_file_is_an_error(book: Ledger, damage: Any) -> None:
    for number in range(1, 30):
        book.charge(wanted(number, spent=GaussianSteps(0.1, 50.0, 1)))
    book.path.write_bytes(damage(book.path.read_bytes()))
    with pytest.raises(DataError, match=r"cannot be used|changed at row|cut off"):
        book.rows()


def test_a_ledger_of_other_data_is_refused(book: Ledger) -> None:
    book.charge(wanted())
    other = Ledger(book.path, "d2")
    with pytest.raises(DataError, match="belongs to other data"):
        other.charge(wanted(2))
    Ledger.read(book.path).accept("d2")
    assert other.charge(wanted(2)).epsilon == compute_epsilon([GaussianSteps(0.1, 4.0, 20)], 1e-5, "rdp")


def test_a_full_disk_refuses_the_charge(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    book.charge(wanted())
    real = ledger.connect_sqlite

    def full(path: Path) -> sqlite3.Connection:
        result = real(path)
        result.execute(f"PRAGMA max_page_count = {result.execute('PRAGMA page_count').fetchone()[0]}")
        return result

    monkeypatch.setattr(ledger, "connect_sqlite", full)
    with pytest.raises(DataError, match="full"):
        book.check()
    with pytest.raises(DataError, match="full"):
        for number in range(2, 100):
            book.charge(wanted(number, spent=GaussianSteps(0.1, 50.0, 1)))
    monkeypatch.undo()
    assert book.check() == book.rows()


def test_a_read_only_file_refuses_the_charge(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    book.charge(wanted())
    monkeypatch.setattr(
        ledger, "connect_sqlite", lambda path: sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    )
    assert len(book.rows()) == 1
    with pytest.raises(DataError, match="readonly"):
        book.check()
    with pytest.raises(DataError, match="readonly"):
        book.charge(wanted(2))


def test_threads_take_turns(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "HEAD_SECONDS", 120.0)

    def work(run: str) -> None:
        for number in range(1, 6):
            Ledger(book.path, "d1").charge(wanted(number, run=run))

    threads = [threading.Thread(target=work, args=(run,)) for run in (RUN, OTHER, "c" * 32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = book.rows()
    assert len(rows) == 15
    assert rows[-1].epsilon == compute_epsilon([GaussianSteps(0.1, 4.0, 150)], 1e-5, "rdp")


def test_a_head_that_another_has_not_written_yet_is_waited_for(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows are committed, and neither of those who charged them has written the head file."""
    monkeypatch.setattr(ledger, "HEAD_SECONDS", 120.0)
    book.charge(wanted(1))
    head = book.head.read_bytes()
    book.charge(wanted(2))
    book.head.unlink()
    threading.Timer(0.2, book.head.write_bytes, [head]).start()
    book.charge(wanted(3))
    assert [row.number for row in book.rows()] == [1, 2, 3]
    book.head.unlink()
    monkeypatch.setattr(ledger, "HEAD_SECONDS", 0.05)
    with pytest.raises(DataError, match="is gone, though 3 rows were charged"):
        book.charge(wanted(4))


CHARGING = """
import sys
from pathlib import Path
from client.privacy import charges, ledger
from client.privacy.accounting import GaussianSteps
charges.compute_epsilon = lambda *_: 1.0
ledger.HEAD_SECONDS = 120.0  # both may be held up before the first of them has written the head file
book = ledger.Ledger(Path(sys.argv[1]), "d1")
for number in range(1, 100000):
    step = GaussianSteps(0.1, 4.0, 10)
    book.charge(charges.Charge(sys.argv[2] * 32, number, "patient", "person", 50, step, 1e-5, "rdp"))
    print(number, flush=True)
"""


@pytest.mark.processes
def test_kill_9_loses_no_charge(book: Ledger) -> None:
    for attempt, after in enumerate((1, 2, 5, 9, 14)):
        both = [
            subprocess.Popen([sys.executable, "-c", CHARGING, str(book.path), name], stdout=subprocess.PIPE, text=True)
            for name in (f"{attempt:x}", "f")
        ]
        printed = []
        for process in both:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(after)]
            os.kill(process.pid, signal.SIGKILL)
            lines += process.stdout.read().splitlines()
            process.wait(timeout=300)
            process.stdout.close()
            printed.append(len([line for line in lines if line.strip()]))
        rows = book.rows()
        mine = [row for row in rows if row.run == f"{attempt:x}" * 32]
        assert printed[0] >= after
        assert printed[0] <= len(mine) <= printed[0] + 1


def test_the_digest_is_of_content(tmp_path: Path) -> None:
    folder, known = tmp_path / "data", tmp_path / "known.json"
    folder.mkdir()
    (folder / "a.csv").write_text("1,2\n")
    first = digest_folder(folder, known)
    os.utime(folder / "a.csv", (1, 1))
    (folder / ".hidden").write_text("x")
    assert digest_folder(folder, known) == digest_folder(folder) == first
    (folder / "a.csv").write_text("1,3\n")
    assert digest_folder(folder, known) == digest_folder(folder) != first


def test_reading_a_missing_ledger_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no privacy ledger"):
        Ledger.read(tmp_path / "none.sqlite")
    assert INITIAL_HASH == "0" * 64
