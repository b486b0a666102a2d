from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from client.gate.register import SMALL, Register
from client.gate.register_file import open_register_file, release_register_file, unpack_people
from common.errors import DataError, SiteError


@pytest.fixture
def register(tmp_path: Path) -> Register:
    return Register(tmp_path / "north" / "register.sqlite", "north")


def people(first: int, end: int) -> list[str]:
    return [f"person-{i}" for i in range(first, end)]


def test_the_same_people_may_leave_again_and_few_more_may_not(register: Register) -> None:
    assert register.release("heart", "train", [people(0, 50)], 20, "a") == [True]
    assert register.release("heart", "train", [people(0, 50)], 20, "b") == [True]
    assert register.release("heart", "train", [people(0, 51)], 20, "b") == [False]
    assert register.release("heart", "train", [people(1, 50)], 20, "b") == [False]
    assert register.release("heart", "train", [people(0, 69)], 20, "b") == [False]
    assert register.release("heart", "train", [people(0, 70)], 20, "b") == [True]
    # what was refused left no trace: 69 people differ from both by fewer than 20
    assert register.release("heart", "train", [people(0, 69)], 20, "b") == [False]


def test_kinds_and_data_sets_are_compared_each_for_itself(register: Register) -> None:
    assert register.release("heart", "train", [people(0, 50)], 20, "a") == [True]
    assert register.release("heart", "test", [people(0, 49)], 5, "a") == [True]
    assert register.release("mitdb", "train", [people(0, 49)], 20, "a") == [True]


def test_groups_of_one_answer_are_compared_with_one_another(register: Register) -> None:
    groups = [people(0, 30), people(0, 28), people(0, 25)]
    assert register.release("heart", "test", groups, 5, "a") == [True, False, True]


def test_a_swap_of_few_people_is_a_difference_too(register: Register) -> None:
    register.release("heart", "test", [people(0, 30)], 5, "a")
    swapped = [*people(0, 28), *people(40, 42)]
    assert register.release("heart", "test", [swapped], 5, "a") == [False]
    assert register.release("heart", "test", [[*people(0, 27), *people(40, 43)]], 5, "a") == [True]


def test_differences_are_counted_as_sets_would(register: Register) -> None:
    groups = [people(0, 3), people(5, 30), people(2, 9)]
    register.release("heart", "a", groups, 1, "a")
    with open_register_file(register.path, "north") as file:
        stored = file.read_releases("heart", "a")
        for one, mine in zip(stored, groups, strict=True):
            assert int(unpack_people(one.content).sum()) == one.size == len(mine)
            for other, theirs in zip(stored, groups, strict=True):
                assert one.count_difference(other) == len(set(mine) ^ set(theirs))


def test_what_is_held_in_memory_is_what_stands_in_the_file(register: Register) -> None:
    """Another process writes, the file is replaced, a transaction fails: the next answer goes by the file."""
    fresh = Register(register.path.parent / "other" / "register.sqlite", "north")

    def release(first: int, end: int) -> bool:
        return register.release("heart", "train", [people(first, end)], 5, "a")[0]

    for number in range(10, 40, 5):
        assert release(0, number)
        with sqlite3.connect(register.path) as other:  # as another process would
            other.execute("INSERT INTO questions VALUES ('x', 'a test', ?, 0)", (str(number),))
        other.close()
        assert not release(0, number + 1)
        release_register_file()
        assert not release(0, number + 1)
    with pytest.raises(RuntimeError), register.open():
        assert release(50, 90)
        raise RuntimeError
    assert release(51, 90)  # what was rolled back was never answered
    fresh.ask("a", "a test", "1", 1, None)
    fresh.path.unlink()
    fresh.ask("b", "a test", "1", 1, None)
    assert fresh.summary()["questions"] == {"a test": 1}


def test_a_transaction_inside_of_another_is_a_part_of_it(register: Register) -> None:
    with pytest.raises(SiteError), register.open():
        register.ask("a", "a test", "1", 1, None)
        register.ask("a", "a test", "2", 1, None)
    assert register.summary()["questions"] == {}


def test_the_file_holds_no_name_and_is_the_owners_alone(register: Register) -> None:
    register.release("heart", "train", [people(0, 5)], 1, "a")
    assert b"person-1" not in register.path.read_bytes()
    assert stat.S_IMODE(register.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(register.path.parent.stat().st_mode) == 0o700


def test_a_folder_that_others_can_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "north").mkdir(mode=0o755)
    register = Register(tmp_path / "north" / "register.sqlite", "north")
    register.ask("a", "a test", "1", 1, 1)
    assert stat.S_IMODE(register.path.parent.stat().st_mode) == 0o700


def test_it_belongs_to_one_site(register: Register) -> None:
    register.ask("a", "a test", "1", 1, 1)
    with pytest.raises(DataError, match="belongs to the site north, not to mallory"):
        Register(register.path, "mallory").ask("a", "a test", "1", 1, 1)


def test_a_damaged_file_stops(register: Register) -> None:
    register.path.parent.mkdir()
    register.path.write_bytes(b"not a database, but long enough to be looked at" * 40)
    with pytest.raises(DataError, match="cannot be used"):
        register.ask("a", "a test", "1", 1, 1)


def test_questions_are_limited_by_run_and_month_and_repeats_are_free(register: Register) -> None:
    for digest in ("1", "2", "1", "2", "1"):
        register.ask("a", "a test", digest, 2, 3)
    with pytest.raises(SiteError, match="at most 2 models in one run"):
        register.ask("a", "a test", "3", 2, 3)
    register.ask("b", "a test", "3", 2, 3)
    with pytest.raises(SiteError, match="at most 3 models in 30 days"):
        register.ask("b", "a test", "4", 2, 3)
    register.ask("b", "validation", "4", 2, 3)
    with register.open() as connection:
        connection.execute("UPDATE questions SET time = time - 31 * 24 * 3600 WHERE run = 'a'")
    register.ask("b", "a test", "4", 2, 3)


def test_simultaneous_questions_cannot_slip_past_the_limit(register: Register) -> None:
    register.ask("a", "a test", "0", None, None)
    answered, start = [], threading.Barrier(8)

    def ask(number: int) -> None:
        start.wait()
        try:
            register.ask("a", "a test", str(number), 4, None)
            answered.append(number)
        except SiteError:
            pass

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) == 3


def test_what_fails_leaves_nothing(register: Register) -> None:
    with pytest.raises(RuntimeError), register.open() as connection:
        connection.execute("INSERT INTO questions VALUES ('a', 'a test', '1', 0)")
        raise RuntimeError
    assert register.summary()["questions"] == {}


def test_nobodys_split_changes(register: Register) -> None:
    with register.open() as connection:
        register.record_split(connection, "heart", {"p": 0, "q": 2})
    with register.open() as connection:
        register.record_split(connection, "heart", {"p": 2, "r": 1})
        assert register.read_sides(connection, "heart", ["p", "q", "r", "s"]) == {"p": 0, "q": 2, "r": 1}
    assert register.redraw("heart") == 3
    with register.open() as connection:
        assert register.read_sides(connection, "heart", ["p", "q", "r"]) == {}


def test_a_threads_file_is_closed_when_it_ends(register: Register) -> None:
    connections: list[sqlite3.Connection] = []

    def ask() -> None:
        register.ask("a", "a test", "1", 1, 1)
        with open_register_file(register.path, "north") as file:
            connections.append(file.connection)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        connections[0].execute("SELECT 1")


def test_another_version_is_refused(register: Register) -> None:
    register.ask("a", "a test", "1", 1, 1)
    with closing(sqlite3.connect(register.path)) as connection, connection:
        connection.execute("UPDATE about SET value = 'wardround.register/9' WHERE key = 'format'")
    with pytest.raises(DataError, match="not a register of this version"):
        register.ask("a", "a test", "1", 1, 1)


def sizes(register: Register, *groups: list[int], question: str = "q", noise: float = 2.0) -> list[int]:
    names = people(0, 40)
    member = np.zeros((len(groups), 40), dtype=bool)
    for row, group in zip(member, groups, strict=True):
        row[group] = True
    return register.answer_sizes(names, member, 5, question, noise).tolist()


def test_the_same_question_gets_the_same_answer(register: Register) -> None:
    groups = [list(range(number)) for number in range(15, 40)]
    answers = sizes(register, *groups)
    assert [sizes(register, group)[0] for group in groups] == answers
    shuffled = np.random.default_rng(0).permutation(40)
    names, member = np.asarray(people(0, 40))[shuffled], np.arange(40)[None] < 20
    assert register.answer_sizes(names.tolist(), member[:, shuffled], 5, "q", 2.0).tolist() == [answers[5]]
    errors = np.asarray(answers) - np.arange(15, 40)
    assert 1 < errors.std() < 3


def test_no_answer_shows_whether_one_more_is_in_a_group(register: Register) -> None:
    """With an error of its own for each group, but the same for each question, any change showed that somebody is."""
    questions = [str(number) for number in range(400)]
    for size in (4, 20):
        one, other = (
            np.asarray([sizes(register, list(range(n)), question=question)[0] for question in questions])
            for n in (size, size + 1)
        )
        assert len(set(one)) > 3
        assert (one == other).mean() > 0.1  # somebody more is there, and the answer is the same
        same = np.asarray([sizes(register, list(range(size)), question=f"again {q}")[0] for q in questions])
        assert (one != same).mean() > 0.3  # nobody more is there, and the answer is another


def test_the_secret_of_a_site_decides(tmp_path: Path) -> None:
    answers = {sizes(Register(tmp_path / str(n) / "register.sqlite", "north"), list(range(20)))[0] for n in range(30)}
    assert len(answers) > 3


def test_a_run_keeps_its_settings(register: Register) -> None:
    register.bind("a", "1")
    register.bind("a", "1")
    register.bind("b", "2")
    with pytest.raises(SiteError, match="a run keeps its configuration"):
        register.bind("a", "2")


def test_small_groups_and_empty_ones_look_alike(register: Register) -> None:
    assert sizes(register, [], [3], [1, 2, 3, 4], noise=0.0) == [2, 2, 2]
    assert sizes(register, [1, 2, 3, 4, 5], noise=0.0) == [5]
    small = [sizes(register, [], [3], question=str(number)) for number in range(300)]
    assert np.isin(small, (2, 5, 6, 7, 8, 9, 10)).all()
    assert (np.asarray(small) > 2).any()  # nobody at all may look like a group of five


def test_a_table_of_nobody_is_answered_like_one_of_few(register: Register) -> None:
    """Its counts have one row of zeros and no name."""
    nobody = np.zeros((1, 1), dtype=bool)
    answers = [int(register.answer_sizes((), nobody, 5, f"question {i}", 2.0)[0]) for i in range(300)]
    assert set(answers) <= {SMALL, 5, 6, 7, 8}
    assert 0 < sum(answer != SMALL for answer in answers) < 15
