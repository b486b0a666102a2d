"""Values in YAML and in --set: anchors, merged sections, dates, tags, odd numbers, and text that YAML would lose."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from common.config import RunConfig, load_config, parse_config
from common.errors import ConfigError
from common.settings import parse_yaml


def load(folder: Path, text: str) -> RunConfig:
    file = folder / "run.yaml"
    file.write_text("data: {dataset: synthetic}\n" + text)
    return load_config(file)


def test_anchors_and_merged_sections_give_the_values_that_they_stand_for(tmp_path: Path) -> None:
    run = load(tmp_path, "seed: &n 7\ntraining: {<<: {epochs: 3, lr: 0.5}, epochs: 5, patience: *n}\n")
    assert (run.seed, run.training.epochs, run.training.lr, run.training.patience) == (7, 5, 0.5, 7)
    run = load(tmp_path, "training: {<<: [{epochs: 3}, {epochs: 4, lr: 0.5}]}\n")  # the first of several holds
    assert (run.training.epochs, run.training.lr) == (3, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: *n\n", "undefined alias"),
        ("training: {<<: 5}\n", "expected a mapping"),
        ("training: {<<: {epochs: 3}, <<: {epochs: 4}}\n", "the key << occurs twice"),
        ("x: &x [*x]\n", "an anchor contains itself"),
    ],
)
def test_wrong_anchors_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize("text", ["2024-01-31", "2023-02-29", "2024-13-45", "2024-01-31 25:00:00", "._", "1_", "0b_"])
def test_dates_and_what_is_nearly_a_number_are_text(text: str) -> None:
    assert parse_yaml(text) == text


def test_numbers_may_have_single_underscores() -> None:
    assert [parse_yaml(text) for text in ("1_000", "0x1_F", "0b1_1", "1_0.5_0")] == [1000, 31, 3, 10.5]


@pytest.mark.parametrize(
    "text",
    ["!!int x", "!!float abc", "!!bool maybe", "!!timestamp x", "9" * 5000, "0x" + "f" * 5000],
)
def test_a_value_that_is_not_of_its_kind_is_no_yaml(tmp_path: Path, text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml(f"a: {text}")
    with pytest.raises(ConfigError, match=r"not valid YAML: a (value is not of the kind|number is too long)"):
        load(tmp_path, f"seed: {text}\n")


@pytest.mark.parametrize("text", ["ward #2", "#2", "&x y", "~", "a\nb"])
def test_text_of_an_override_that_yaml_would_lose_is_asked_for_in_quotes(text: str) -> None:
    with pytest.raises(ConfigError, match="put the value in quotes"):
        parse_config({}, [f"title={text}"])


def test_quoted_and_harmless_overrides_are_taken_as_they_are() -> None:
    given = {"title='ward #2'": "ward #2", "title=a#2": "a#2", "title=~/x": "~/x", "title=2023-02-29": "2023-02-29"}
    assert [parse_config({}, [text]).title for text in given] == list(given.values())
    assert parse_config({"data": {"path": "x"}}, ["data.path=null"]).data.path is None
