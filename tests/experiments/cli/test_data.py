"""`wardround data`: list, fetch, verify, describe and synth."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import generate_data
from experiments.cli import data_tables, main
from sites import datasets
from sites.download import catalogue
from tests.webserver import Server


class Done:
    """What a command gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def wardround(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    """Return a function that runs the command line in this process, in a folder of its own."""
    monkeypatch.delenv("WARDROUND_DEBUG", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["wardround", "data", *arguments])
        code = 0
        try:
            main.main()
        except SystemExit as depart:
            code = int(depart.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def fetched(wardround, server: Server) -> Path:  # type: ignore[no-untyped-def]
    assert wardround("fetch", "mitdb", "got", "--quiet", "--base-url", server.base).code == 0
    return Path("got")


def test_the_list_names_every_data_set_and_how_it_is_had(wardround) -> None:  # type: ignore[no-untyped-def]
    done = wardround("list")
    assert (done.code, done.err) == (0, "")
    lines = {line.split()[0]: line for line in done.out.splitlines() if line[:1].strip()}
    assert set(datasets.dataset_names()) <= set(lines)
    assert "94 MB" in lines["mitdb"]
    assert "SYNTHETIC" in lines["synthetic"]
    assert max(map(len, done.out.splitlines())) <= 110
    rows = {row["name"]: row for row in json.loads(wardround("list", "--json").out)}
    assert tuple(rows) == datasets.dataset_names()
    assert rows["mitdb"]["licence"] == "Open Data Commons Attribution License v1.0"
    assert (rows["mitdb"]["fetch"], rows["mitdb"]["synth"], rows["mitdb"]["folder"]) == (True, False, "data/mitdb")
    assert (rows["synthetic"]["fetch"], rows["synthetic"]["synth"], rows["synthetic"]["synthetic"]) == (
        False,
        True,
        True,
    )
    assert rows["heart_disease"]["synth"]
    assert "kaggle.com" in rows["heartbeat_csv"]["by_hand"]
    assert all(rows[item.name]["size"] == item.size for item in catalogue.SOURCES.values() if item.name in rows)


def test_fetch_shows_the_licence_first_and_ends_with_the_folder(wardround, server: Server) -> None:  # type: ignore[no-untyped-def]
    done = wardround("fetch", "mitdb", "--base-url", server.base)
    assert done.code == 0
    assert done.out == "data/mitdb\n"
    said = done.err.splitlines()
    assert said[0].strip() == "MIT-BIH Arrhythmia Database 1.0.0"
    assert (
        said[1].split(maxsplit=1) == ["licence", "Open Data Commons Attribution License v1.0"] or "licence" in said[1]
    )
    assert any("Moody GB" in line for line in said[:5])
    size = sum(len(server.files[path]) for path in server.files if path[0] in "1LR")
    (plan,) = (line for line in said if "to fetch" in line)
    assert plan.startswith(f"11 files to fetch, {size / 1000:.1f} kB")
    assert said[-1].startswith("11 files fetched (")
    assert said[-1].endswith("every SHA-256 matches")
    assert not (Path("data") / "mitdb" / "x_mitdb").exists()
    again = wardround("fetch", "mitdb", "--base-url", server.base)
    assert "nothing new, 11 files kept; every SHA-256 matches" in again.err


def test_fetch_quiet_and_json_and_all(wardround, server: Server) -> None:  # type: ignore[no-untyped-def]
    quiet = wardround("fetch", "mitdb", "a", "-q", "--base-url", server.base)
    assert (quiet.code, quiet.out, quiet.err) == (0, "a\n", "")
    done = wardround("fetch", "mitdb", "b", "--json", "--all", "--base-url", server.base)
    assert (done.code, done.err) == (0, "")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [events[0]["event"], events[1]["event"], events[-1]["event"]] == ["start", "plan", "done"]
    assert events[0]["licence"] == "Open Data Commons Attribution License v1.0"
    assert events[-1]["fetched"] == sum(event["event"] == "file" for event in events) == 12
    assert (Path("b") / "x_mitdb" / "more.dat").is_file()
    some = wardround("fetch", "mitdb", "c", "--json", "--only", "*.atr", "--base-url", server.base)
    assert json.loads(some.out.splitlines()[-1])["fetched"] == 4


def test_the_address_may_come_from_the_environment(wardround, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("WARDROUND_BASE_URL", server.base)
    assert wardround("fetch", "mitdb", "a", "-q").code == 0


def test_a_file_that_cannot_be_had_is_exit_code_1_and_the_next_fetch_repairs_it(wardround, server: Server) -> None:  # type: ignore[no-untyped-def]
    server.always["100.dat"] = "other bytes"
    done = wardround("fetch", "mitdb", "a", "-q", "--base-url", server.base)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "wardround: 1 of 11 files could not be fetched (100.dat: what the server sends has another SHA-256 than was "
        "published); the others are in a: the same command tries again\n"
    )
    bad = wardround("verify", "mitdb", "a")
    assert bad.code == 2
    assert "10 ok, 0 damaged, 1 missing" in bad.out
    assert "missing: 100.dat" in bad.out
    assert "wardround data fetch mitdb a" in bad.out
    server.always.clear()
    assert wardround("fetch", "mitdb", "a", "-q", "--base-url", server.base).code == 0
    assert wardround("verify", "mitdb", "a").code == 0


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["fetch", "synthetic"], 2, "nothing to fetch for 'synthetic': choose one of eicu, heart_disease, mitdb"),
        (["fetch", "heartbeat_csv"], 2, "https://www.kaggle.com/datasets/shayanfazeli/heartbeat"),
        (["fetch", "mitdb", "a", "--base-url", "BASE", "--only", "*.mp3"], 2, "--only *.mp3: none of the 12 files"),
        (["fetch", "mitdb", "a", "--base-url", "BASE", "--rate", "100"], 2, "--rate 100: mitdb has only one"),
        (["fetch", "mitdb", "a", "--base-url", "BASEnowhere/"], 1, "cannot get the list of files from http"),
        (["fetch", "mitdb", "a", "--base-url", "ftp://example.org/"], 1, "is not https"),
        (["fetch", "mitdb", "a", "--connections", "100"], 2, "connections"),
        (["fetch", "mitdb", "file", "--base-url", "BASE"], 2, "cannot write file"),
        (["verify", "mitdb", "nowhere"], 2, "no data folder nowhere"),
        (["verify", "mitbd", "nowhere"], 2, "no data set named 'mitbd'"),
        (["describe", "mitdb", "nowhere"], 2, "no data folder nowhere"),
        (["describe", "mitdb"], 2, "data.path: name the folder"),
        (["describe", "mitdb", "nowhere", "--set", "training.lr=1"], 2, "only values of data are used here"),
        (["describe", "mitdb", "nowhere", "--set", "data.options.view=round"], 2, "view"),
        (["describe", "none.yaml"], 2, "no configuration file none.yaml"),
        (["synth", "mitdb", "x"], 2, "no generator for 'mitdb': choose one of synthetic"),
        (["synth", "heart_disease", "x", "--minutes", "3"], 2, "unknown key minutes"),
        (["synth", "heart_disease", "x", "--patients", "0"], 2, "patients: Input should be greater than or equal to 1"),
        (["synth", "heart_disease", "x", "--set", "hospitals"], 2, "write it as key=value"),
        (["synth", "x", "y", "z"], 2, "not 3 words"),
        (["synth", "x", "--hospitals", "0"], 2, "hospitals: Input should be greater than or equal to 1, got 0"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(wardround, server: Server, words: list[str], code: int, why: str) -> None:  # type: ignore[no-untyped-def]
    Path("file").touch()
    done = wardround(*(word.replace("BASE", server.base) for word in words), *(["-q"] if words[0] == "fetch" else []))
    assert (done.code, done.out) == (code, "")
    assert why in done.err
    assert done.err.startswith("wardround: ")
    assert len(done.err.splitlines()) == 1


def test_verify_in_json(wardround, fetched: Path) -> None:  # type: ignore[no-untyped-def]
    done = wardround("verify", "mitdb", str(fetched), "--json")
    result = json.loads(done.out)
    assert (done.code, result["good"], result["ok"], result["missing"]) == (0, True, 11, [])
    (fetched / "100.dat").write_bytes(b"x")
    (fetched / "101.dat").unlink()
    done = wardround("verify", "mitdb", str(fetched), "--json")
    result = json.loads(done.out)
    assert (done.code, result["good"], result["ok"]) == (2, False, 9)
    assert (result["damaged"], result["missing"]) == ({"100.dat": "its SHA-256 is another"}, ["101.dat"])
    assert wardround("verify", "mitdb", str(fetched), "--only", "102*").code == 0


def test_verify_of_a_folder_without_sums_reads_it(wardround, fetched: Path) -> None:  # type: ignore[no-untyped-def]
    (fetched / "SHA256SUMS.txt").unlink()
    done = wardround("verify", "mitdb", str(fetched))
    assert done.code == 0
    assert "by reading every file, and the reader of mitdb" in done.out
    assert "2 recordings or stays readable" in done.out  # 102 is one of the four paced


def test_very_many_bad_files_are_cut_short(wardround, fetched: Path) -> None:  # type: ignore[no-untyped-def]
    with (fetched / "SHA256SUMS.txt").open("a") as sums:
        sums.writelines(f"{'0' * 64}  1{i:02}.atr\n" for i in range(50, 90))
    done = wardround("verify", "mitdb", str(fetched))
    assert "40 missing" in done.out
    assert done.out.count("missing: ") == data_tables.MAX_LINES
    assert "and 20 more: --json names all" in done.out


def test_describe_shows_the_card_and_hides_small_counts(wardround) -> None:  # type: ignore[no-untyped-def]
    made = wardround("synth", "heart_disease", "made", "--patients", "60", "--set", "hospitals=3", "--seed", "5")
    assert (made.code, made.err) == (0, "")
    assert made.out == "SYNTHETIC heart_disease data in made: hospitals 3, patients 60, seed 5\n"
    done = wardround("describe", "heart_disease", "made", "--set", "data.options.protocol=explicit")
    assert (done.code, done.err) == (0, "")
    assert "SYNTHETIC data: generated, not from patients" in done.out
    assert "CC BY 4.0" in done.out
    assert "Janosi A" in done.out
    words = ["describe", "heart_disease", "made", "--json", "--set", "data.options.protocol=explicit"]
    result = json.loads(wardround(*words).out)
    open_ = json.loads(wardround(*words, "--min-people", "1").out)
    assert result["synthetic"]
    assert result["patients"] == open_["patients"] == 180
    reported = [cell for line in result["missing"] for cell in [line["never"], *line["sites"].values()]]
    real = [cell for line in open_["missing"] for cell in [line["never"], *line["sites"].values()]]
    assert any(isinstance(cell, str) for cell in reported)
    assert not set(reported) & {1, 2, 3, 4}
    assert set(real) & {1, 2, 3, 4}
    assert "<5" in done.out
    assert "Counts of fewer than 5 people, and" in done.out


def test_describe_finds_the_usual_folder_and_the_publishers_name(wardround, fetched: Path) -> None:  # type: ignore[no-untyped-def]
    Path("data").mkdir()
    shutil.move(fetched, "data/mitdb")
    done = wardround("describe", "mitdb", "--json", "--min-people", "1", "--set", "data.options.paced=true")
    assert json.loads(done.out)["patients"] == 3
    made = wardround("describe", "heart-disease", "--json", "--set", "data.options.simulated=true")
    assert json.loads(made.out)["card"]["name"] == "heart_disease"


@pytest.mark.parametrize("name", sorted(set(generate_data.list_generators()) - {"synthetic"}))
def test_every_generator_is_found_and_checks_its_settings(wardround, name: str) -> None:  # type: ignore[no-untyped-def]
    done = wardround("synth", name, "x", "--set", "nothing=1")
    assert done.code == 2
    assert "unknown key nothing (" in done.err
    assert not Path("x").exists()


def test_synth_makes_the_same_from_the_same_seed(wardround) -> None:  # type: ignore[no-untyped-def]
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert wardround("synth", "heart_disease", folder, "--patients", "20", "--seed", seed).code == 0
    content = {name: {path.name: path.read_bytes() for path in Path(name).glob("*.data")} for name in "abc"}
    assert content["a"] == content["b"] != content["c"]
    assert len(content["a"]) == 4


def test_the_help_answers_at_once_and_names_the_arguments(wardround) -> None:  # type: ignore[no-untyped-def]
    for command in ("list", "fetch", "verify", "describe", "synth"):
        done = wardround(command, "--help")
        assert (done.code, done.err) == (0, "")
        assert "Usage: wardround" in done.out
        assert "base-url" not in done.out
    code = (
        "import sys\nfrom experiments.cli.main import app\n"
        "try:\n    app(['data', 'fetch', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(*{'numpy', 'torch', 'requests', 'wfdb', 'pandas', 'pydantic'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(main.__file__).parents[1]
    )
    assert done.stderr.strip() == ""
