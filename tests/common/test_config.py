from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from common import config
from common.config import RunConfig, parse_config
from common.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def written(folder: Path, text: str, name: str = "trial.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_run_is_named_by_its_file(tmp_path: Path) -> None:
    assert config.load_config(written(tmp_path, "seed: 1", "Trial.yaml")) == RunConfig(name="trial")


@pytest.mark.parametrize("text", ["", "# only a comment", "{}"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"Trial\.yaml is empty: it must hold keys and values"):
        config.load_config(written(tmp_path, text, "Trial.yaml"))


def test_an_override_replaces_a_value_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 3\ntraining: {lr: 0.5, epochs: 4}\n")
    read = config.load_config(path, ["training.lr=0.01", "federation.strategy.name=fedprox"])
    assert (read.seed, read.training.lr, read.training.epochs) == (3, 0.01, 4)
    assert read.federation.strategy.name == "fedprox"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"trainning": {}}, "unknown key trainning (did you mean training?)"),
        ({"training": {"learning": 1}}, "unknown key training.learning (known keys: augment, batch_size"),
        ({"training": {"epoch": 1}}, "unknown key training.epoch (did you mean epochs?)"),
        (
            {"federation": {"strategy": {"option": {}}}},
            "unknown key federation.strategy.option (did you mean options?)",
        ),
        ({"training": {"epochs": "3"}}, "training.epochs: Input should be a valid integer, got '3'"),
        ({"training": {"epochs": 3.0}}, "training.epochs: Input should be a valid integer, got 3.0"),
        ({"training": {"epochs": True}}, "training.epochs: Input should be a valid integer, got True"),
        ({"training": {"lr": "fast"}}, "training.lr: Input should be a valid number, got 'fast'"),
        ({"training": {"lr": 0}}, "training.lr: Input should be greater than 0, got 0"),
        ({"training": {"lr": float("nan")}}, "training.lr: Input should be a finite number, got nan"),
        (
            {"training": {"optimizer": "adam"}},
            "training.optimizer: Input should be 'adamw' or 'sgd', got 'adam'",
        ),
        ({"sites": {"test": 1.0}}, "sites.test: Input should be less than 1, got 1.0"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, got -1"),
        ({"seed": None}, "seed: Input should be a valid integer, got None"),
        ({"name": "My Run"}, "name: String should match pattern"),
        ({"training": 3}, "training: "),
        (
            {"federation": {"expect": "north"}},
            "federation.expect: Input should be a valid tuple, got 'north'",
        ),
        ({1: 2}, "1: Keys should be strings"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_path(raw: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_wrong_keys_are_named_at_once_with_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "sede: 1\ntraining: {lr: -1}\n")
    with pytest.raises(ConfigError, match=rf"{path}: .*training\.lr.*unknown key sede \(did you mean seed\?\)"):
        config.load_config(path)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("1E3", 1e3), ("5.e-1", 0.5), (".5e0", 0.5), ("+2e-1", 0.2), ("0.25", 0.25), ("1", 1)],
)
def test_numbers_in_exponent_notation_are_numbers(tmp_path: Path, text: str, number: float) -> None:
    path = written(tmp_path, f"training: {{weight_decay: {text}}}\n" if number < 10 else f"seed: {text}\n")
    if number < 10:
        assert config.load_config(path).training.weight_decay == number
        assert parse_config({}, [f"training.weight_decay={text}"]).training.weight_decay == number
    else:
        with pytest.raises(ConfigError, match=r"seed: .*valid integer, got 1000\.0"):
            config.load_config(path)


@pytest.mark.parametrize(
    ("text", "number"), [("010", None), ("1:30", None), ("0o10", None), ("0x10", 16), ("0b11", 3), ("1_000", 1000)]
)
def test_a_number_in_another_base_is_read_as_it_looks_or_refused(tmp_path: Path, text: str, number: int | None) -> None:
    path = written(tmp_path, f"federation: {{rounds: {text}}}\n")
    if number is None:
        for read in (lambda: config.load_config(path), lambda: parse_config({}, [f"federation.rounds={text}"])):
            with pytest.raises(ConfigError, match=f"federation.rounds: .*got '{text}'"):
                read()
    else:
        assert config.load_config(path).federation.rounds == number
    with pytest.raises(ConfigError, match=r"training\.lr: .*valid number, got '010'"):
        parse_config({}, ["training.lr=010"])


def test_quoted_numbers_stay_text(tmp_path: Path) -> None:
    text = "title: '1e3'\nfederation: {expect: ['1e3', north]}\nmodel: {options: {a: [1e-3, 2]}}\n"
    read = config.load_config(written(tmp_path, text))
    assert read.title == "1e3"
    assert read.federation.expect == ("1e3", "north")
    assert read.model.options == {"a": (0.001, 2)}


def test_overrides_reach_every_kind_of_value() -> None:
    read = parse_config(
        {},
        [
            "data.path=/a=b",
            "data.options.paced=true",
            "federation.expect=[north, south]",
            "evaluation.without={pacers: ['102']}",
            "sites.limit=null",
            "model.options.widths=[8, 16]",
        ],
    )
    assert read.data.path == "/a=b"
    assert read.data.options == {"paced": True}
    assert read.federation.expect == ("north", "south")
    assert read.evaluation.without == {"pacers": ("102",)}
    assert read.sites.limit is None
    assert read.model.options == {"widths": (8, 16)}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.lr", "write it as section.key=value"),
        ("=3", "write it as section.key=value"),
        ("training..lr=3", "write it as section.key=value"),
        ("training.lr=[", "--set training.lr: '[' is not a YAML value"),
        ("seed.deep=1", "--set seed.deep: seed holds a value, not a section"),
        ("sed=1", "unknown key sed (did you mean seed?)"),
    ],
)
def test_a_wrong_override_is_named(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"seed": 1}, [override])
    assert said in str(caught.value)


def test_an_override_does_not_change_the_given_mapping() -> None:
    raw = {"training": {"lr": 0.5}}
    parse_config(raw, ["training.lr=0.1", "training.epochs=2"])
    assert raw == {"training": {"lr": 0.5}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2\nb: 3\n", "is not valid YAML at line 2"),
        ("training: {lr: 0.1}\nseed: 1\ntraining: {epochs: 2}\n", "at line 3: the key training occurs twice"),
        ("- seed\n- 1\n", "must hold keys and values, not a list"),
        ("just words\n", "must hold keys and values, not a str"),
        ("!!python/object/apply:os.getcwd []\n", "is not valid YAML at line 1"),
        ("seed: 1\n? [a, b]\n: 2\n", "at line 2: a key must be a word"),
        ("? {a: 1}\n: 2\n", "at line 1: a key must be a word"),
        ("seed: 3\0\n", "is not valid YAML: unacceptable character"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load_config(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file .*none\.yaml: see experiments"):
        config.load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        config.load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"title: M\xfcller")
    with pytest.raises(ConfigError, match="cannot read"):
        config.load_config(tmp_path / "latin.yaml")


def test_a_configuration_survives_json() -> None:
    requested = parse_config(
        {
            "seed": 5,
            "title": "zwei Häuser",
            "federation": {"expect": ["north", "south"], "strategy": {"options": {"mu": 0.1}}},
            "evaluation": {"without": {"a": ["1", "2"], "none": []}},
            "model": {"options": {"widths": [8, 16], "features": False}},
            "training": {"lr": 1, "clip_norm": 1e-30},
        }
    )
    assert config.config_from_json(config.config_to_json(requested)) == requested
    assert config.config_to_json(config.config_from_json(config.config_to_json(requested))) == config.config_to_json(
        requested
    )


def test_the_json_of_another_version_is_refused() -> None:
    raw = json.loads(config.config_to_json(RunConfig()))
    with pytest.raises(ConfigError, match="unknown key later"):
        config.config_from_json(json.dumps(raw | {"later": 1}))
    with pytest.raises(ConfigError, match="not JSON"):
        config.config_from_json("{")
    with pytest.raises(ConfigError, match="no keys and values, but a list"):
        config.config_from_json("[]")


def test_requested_leaks_have_a_notice() -> None:
    assert parse_config({}).notices == ()
    assert parse_config({"sites": {"split": "published"}}).notices == ()
    assert parse_config({"sites": {"shared_person": "keep"}}).notices == ()
    (leaky,) = parse_config({"sites": {"split": "beat-level"}}).notices
    assert leaky.startswith("LEAKY beat-level split")
    (remaining,) = parse_config({"sites": {"split": "published", "shared_person": "keep"}}).notices
    assert remaining.startswith("LEAK kept on purpose")


def test_leaving_patients_out_needs_a_split_by_patient() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.without needs a split by patient"):
        parse_config({"sites": {"split": "beat-level"}, "evaluation": {"without": {"a": ["1"]}}})


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().training.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_stored_experiment_is_a_valid_configuration(path: Path) -> None:
    assert config.load_config(path).name == path.stem.replace("_", "-")


def described(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        sections = [item for item in get_args(field.annotation) or (field.annotation,) if isinstance(item, type)]
        inner = [item for item in sections if issubclass(item, BaseModel)]
        if inner:
            yield from described(inner[0], f"{path}{name}.")
        elif name != "where":  # the docstring of ShiftConfig explains it once for all shifts
            yield f"{path}{name}", field.description


def test_every_key_says_what_it_means() -> None:
    keys = dict(described(RunConfig))
    assert len(keys) > 100
    assert [key for key, description in keys.items() if not description] == []


def test_stacked_steps_need_one_process_and_are_named_with_the_engine() -> None:
    assert parse_config({}).federation.carrier == "local"
    assert parse_config({}, ["federation.stacked=true"]).federation.carrier == "local, small models stacked"
    with pytest.raises(ConfigError, match="stacked needs engine=local: the sites of engine=ray are in several"):
        parse_config({}, ["federation.stacked=true", "federation.engine=ray"])


def test_automatic_rounds_are_a_maximum_and_a_patience() -> None:
    found = parse_config({}, ["federation.rounds=auto"]).federation
    assert (found.rounds, found.patience) == (100, 10)
    found = parse_config({"federation": {"rounds": "auto", "patience": 3}}).federation
    assert (found.rounds, found.patience) == (100, 3)
    found = parse_config({}, ["federation.rounds=30", "federation.patience=4"]).federation
    assert (found.rounds, found.patience) == (30, 4)
    assert parse_config({}).federation.patience == 0
    auto = parse_config({}, ["federation.rounds=auto"])
    assert config.config_from_json(config.config_to_json(auto)) == auto  # as it crosses the wire


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["federation.rounds=auto", "federation.patience=0"], "rounds=auto needs a patience of at least 1"),
        (["federation.rounds=auto", "federation.choose=last"], "needs choose=best"),
        (["federation.patience=2", "federation.choose=last"], "needs choose=best"),
        (["federation.rounds=automatic"], "federation.rounds: .*'automatic'"),
        (["federation.patience=auto"], "federation.patience: .*'auto'"),
    ],
)
def test_rounds_that_nothing_would_end_are_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_config({}, overrides)
