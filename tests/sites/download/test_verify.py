"""Checking a folder: by sums, and by reading, with files damaged one by one."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import DataError
from sites.datasets import Source, heart_disease, mitdb, synthetic
from sites.datasets.heart_disease import simulate
from sites.download import catalogue, fetch
from sites.download.destination import file_sha256
from sites.download.verify import Verification, verify_files
from sites.ecg.beat_reader import Options


@pytest.fixture
def folder(hospitals: Path, tmp_path: Path) -> Path:
    """A copy of one generated hospital of three recordings, to damage."""
    return shutil.copytree(hospitals / "north", tmp_path / "north")


def check(folder: Path, *only: str) -> Verification:
    return verify_files(Source(synthetic, synthetic.Options(), folder, folder.parent / "store"), None, only)


def write_sums(folder: Path) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS.txt")
    lines = [f"{file_sha256(path)}  {path.relative_to(folder)}\n" for path in paths]
    (folder / "SHA256SUMS.txt").write_text("".join(lines))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_by_sums_each_file_is_right_damaged_or_missing(folder: Path) -> None:
    write_sums(folder)
    observed: list[tuple[int, int]] = []
    source = Source(synthetic, synthetic.Options(), folder, folder.parent / "store")
    whole = verify_files(source, None, on_progress=lambda done, total: observed.append((done, total)))
    assert (whole.ok, whole.damaged, whole.missing, whole.good) == (10, {}, (), True)
    assert observed[-1] == (10, 10)
    flip(folder / "north-002.dat")
    (folder / "north-001.hea").unlink()
    (folder / "north-003.dat.part").touch()
    result = check(folder)
    assert (result.ok, result.missing, result.unfinished) == (8, ("north-001.hea",), 1)
    assert result.damaged == {"north-002.dat": "its SHA-256 is another"}
    assert not result.good
    assert "SHA256SUMS.txt" in result.by
    assert check(folder, "*.atr", "north-003*").ok == 5
    assert check(folder, "*.atr", "north-003*").good


def test_only_what_was_asked_for_is_expected(folder: Path) -> None:
    write_sums(folder)
    for path in folder.glob("*.dat"):
        path.unlink()
    assert len(check(folder).missing) == 3
    (folder / fetch.RECORD).write_text(json.dumps({"patterns": ["*.hea", "*.atr", "RECORDS"]}))
    assert (check(folder).ok, check(folder).good) == (7, True)


def test_nothing_that_fits_is_not_good(folder: Path) -> None:
    write_sums(folder)
    assert not check(folder, "no such*").good


@pytest.mark.parametrize("text", ["<html>", "\xff"])
def test_a_list_of_sums_that_is_none(folder: Path, text: str) -> None:
    (folder / "SHA256SUMS.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"cannot use .*SHA256SUMS.txt: .*; fetch it again"):
        check(folder)


def test_no_folder() -> None:
    with pytest.raises(DataError, match="no data folder nowhere"):
        check(Path("nowhere"))


def test_by_reading_a_whole_folder(folder: Path) -> None:
    result = check(folder)
    assert (result.ok, result.damaged, result.missing, result.records) == (6, {}, (), 3)
    assert result.good
    assert result.unchecked == 1  # RECORDS; the signals are read with their headers


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("north-001.dat", cut, "cannot read the signal"),
    ("north-001.dat", flip, "the checksum of lead"),
    ("north-001.atr", cut, "has no end mark"),
    ("north-001.hea", lambda path: path.write_text("nonsense\n"), "is not understood"),
]


@pytest.mark.parametrize(("name", "harm", "why"), DAMAGE, ids=[f"{n}-{w[:12]}" for n, _, w in DAMAGE])
def test_by_reading_what_is_damaged_is_named(folder: Path, name: str, harm: Callable[[Path], None], why: str) -> None:
    harm(folder / name)
    result = check(folder)
    file = name.replace(".dat", ".hea")
    assert why in result.damaged[file]
    assert set(result.damaged) <= {file, "the reader of synthetic"}
    assert result.ok == 5
    assert not result.good


def test_by_reading_what_is_missing_is_named(folder: Path) -> None:
    (folder / "north-001.dat").unlink()
    (folder / "north-002.hea").unlink()
    result = check(folder)
    assert set(result.missing) == {"north-001.dat", "north-002.hea"}
    assert not result.good


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", b"1,2\n3,4,5\n", "line 2 has 3 cells, the lines before 2"),
        ("a.psv", b"HR|Temp\n80|37\n81\n", "line 3 has 1 cells, the lines before 2"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"caf\xe9,1\n", "cannot be read (UnicodeDecodeError)"),
        ("a.csv.gz", gzip.compress(b"1,2\n" * 500, mtime=0)[:-12], "cannot be read (EOFError)"),
        ("a.parquet", b"PAR1", "cannot be read (ArrowInvalid)"),
    ],
)
def test_tables_are_read_to_their_end(folder: Path, name: str, content: bytes, why: str) -> None:
    (folder / name).write_bytes(content)
    assert check(folder).damaged == {name: why}


def test_whole_tables_are_good(folder: Path) -> None:
    (folder / "a.csv").write_text('1,"two\nlines"\n3,4\n\n')
    (folder / "a.psv").write_text("HR|Temp\n80|37\n")
    (folder / "b.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 500))
    assert (check(folder).ok, check(folder).good) == (9, True)


def test_sums_of_the_program_are_used_where_the_publisher_lists_none(tmp_path: Path) -> None:
    (tmp_path / "processed.va.data").write_text("63,1,1,140,260,0,1,112,1,3,2,?,?,2\n")
    source = Source(heart_disease, heart_disease.Options(), tmp_path, tmp_path / "store")
    result = verify_files(source, catalogue.find_download("heart_disease"))
    assert set(result.damaged) == {"processed.va.data"}
    assert len(result.missing) == 3
    made = tmp_path / "made"
    simulate.generate(made, hospitals=2, patients=30, seed=1)
    source = Source(heart_disease, heart_disease.Options(), made, tmp_path / "store")
    result = verify_files(source, catalogue.find_download("heart_disease"))
    assert "reading" in result.by
    assert result.good


def test_files_that_the_list_of_sums_does_not_name_are_named(folder: Path) -> None:
    write_sums(folder)
    (folder / "notes.txt").write_text("no data")
    (folder / "north-001.wrd").write_bytes(b"written by score")
    assert check(folder).good
    shutil.copy(folder / "north-001.dat", folder / "north-009.dat")
    result = check(folder)
    assert (result.unlisted, result.good) == (("north-009.dat",), False)
    (folder / "north-009.dat").unlink()
    listing = folder / "SHA256SUMS.txt"
    listing.write_text(listing.read_text().splitlines(keepends=True)[0])
    result = check(folder)
    assert len(result.unlisted) == 9  # three headers, signals and annotations; only RECORDS is left in the list
    assert not result.good


def test_each_pattern_fits_a_file(folder: Path) -> None:
    write_sums(folder)
    result = check(folder, "*.atr", "no such*")
    assert (result.ok, result.missing, result.good) == (3, ("no such*",), False)


def test_a_list_of_sums_does_not_replace_those_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "processed.va.data").write_text("63,1,1,140,260,0,1,112,1,3,2,?,?,2\n")
    write_sums(tmp_path)
    source = Source(heart_disease, heart_disease.Options(), tmp_path, tmp_path / "store")
    result = verify_files(source, catalogue.find_download("heart_disease"))
    assert set(result.damaged) == {"processed.va.data"}


def relink(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


ODD: list[tuple[str, Callable[[Path], object], str, str]] = [
    (
        "north-001.dat",
        lambda path: path.write_bytes(path.read_bytes() + b"12345678901234567"),
        "north-001.hea",
        "longer",
    ),
    ("north-001.hea", lambda path: path.write_bytes(path.read_bytes() + b"# \0\0"), "north-001.hea", "no text"),
    ("north-001.hea", lambda path: shutil.copy(path.with_name("north-002.hea"), path), "north-001.hea", "north-002"),
    ("north-001.atr", lambda path: relink(path, path.with_name("gone")), "north-001.atr", "a link to nothing"),
    ("north-001.atr", lambda path: relink(path, path), "north-001.atr", "a link to nothing"),
    ("north-001.atr", become_folder, "north-001.atr", "a folder"),
    ("north-001.dat", lambda path: path.with_name("p.psv").write_text("HR|Temp\n"), "p.psv", "no row below"),
]


@pytest.mark.parametrize(("name", "harm", "file", "why"), ODD, ids=[f"{n}-{w}" for n, _, _, w in ODD])
def test_by_reading_what_a_reader_may_not_notice(
    folder: Path, name: str, harm: Callable[[Path], object], file: str, why: str
) -> None:
    harm(folder / name)
    result = check(folder)
    assert why in result.damaged[file]
    assert not result.good


def test_by_reading_an_unfinished_download_is_missing(folder: Path) -> None:
    (folder / "north-001.atr").rename(folder / "north-001.atr.part")
    assert check(folder).missing == ("north-001.atr",)
    (folder / "north-002.atr.part").touch()  # left behind next to the whole file
    assert check(folder).missing == ("north-001.atr",)


def test_by_reading_two_files_of_the_same_bytes_are_named(folder: Path) -> None:
    shutil.copy(folder / "north-001.dat", folder / "north-009.dat")
    result = check(folder)
    assert result.copies == {"north-009.dat": "north-001.dat"}
    assert result.good  # published data hold some too


def test_by_reading_a_table_that_ends_in_a_line_unlike_the_others(folder: Path) -> None:
    for number in range(12):
        (folder / f"p{number:02d}.psv").write_text("HR|Temp\n80|37\n")
    (folder / "p07.psv").write_text("HR|Temp\n80|3")
    assert set(check(folder).damaged) == {"p07.psv"}
    for path in folder.glob("p0*.psv"):  # where many do, it is how they are written
        path.write_text("HR|Temp\n80|37")
    assert check(folder).good


def test_by_reading_a_folder_that_is_a_link_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.csv").write_text("1,2\n3\n")
    (folder / "below").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    assert set(check(folder).damaged) == {"below/a.csv"}


def test_the_number_of_published_files_is_given(folder: Path) -> None:
    for name in ("100", "101"):
        (folder / f"{name}.hea").write_text(f"{name} 0 360\n")
    source = Source(mitdb, Options(), folder, folder.parent / "store")
    result = verify_files(source, catalogue.find_download("mitdb"))
    assert (result.units, result.published) == (2, 48)


@pytest.mark.realdata
def test_the_published_recordings_are_whole(mitdb_folder: Path, tmp_path: Path) -> None:
    result = verify_files(Source(mitdb, Options(), mitdb_folder, tmp_path), catalogue.find_download("mitdb"))
    assert result.good
    assert result.ok >= 144
