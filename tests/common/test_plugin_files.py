from __future__ import annotations

from pathlib import Path

import pytest

from common import models, plugin_files
from common.config import parse_config
from common.errors import ConfigError
from common.sections.training import ModelConfig
from experiments.runs.checks import check_plugins, resolve_paths
from tests import tiny

CODE = """
from torch import nn
from common.settings import Section

class Options(Section):
    width: int = 3

def build(task, options):
    return nn.Linear(options.width, 2)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(plugin_files.VARIABLE, "")
    path = tmp_path / "My Net.py"
    path.write_text(CODE)
    return path


def test_a_file_runs_only_where_it_is_trusted(file: Path) -> None:
    wanted = ModelConfig(name="x", file=str(file), options={"width": 5})
    with pytest.raises(ConfigError, match="code in a file runs only in a simulation that was started here with it"):
        models.build_model(tiny.TASK, wanted, 1)
    plugin_files.trust_file(str(file))
    assert models.build_model(tiny.TASK, wanted, 1).in_features == 5  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="only in a simulation"):
        models.build_model(tiny.TASK, ModelConfig(file=f"{file.parent}/other.py"), 1)


def test_a_simulation_trusts_its_file_and_records_its_digest(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    config = resolve_paths(parse_config({"model": {"file": "./My Net.py"}}))
    assert config.model.file == str(file)
    assert config.model.name == "own-my-net"
    assert config.model.digest == plugin_files.digest_file(file)
    check_plugins(config)
    file.write_text(CODE.replace("3", "4"))
    with pytest.raises(ConfigError, match="has changed since the run"):
        models.build_model(tiny.TASK, config.model, 1)
    with pytest.raises(ConfigError, match="has changed since the run started"):
        resolve_paths(config)


def test_a_federation_of_hospitals_trusts_no_file(file: Path) -> None:
    config = resolve_paths(parse_config({"model": {"file": str(file)}, "federation": {"engine": "federation"}}))
    with pytest.raises(ConfigError, match="only in a simulation"):
        check_plugins(config)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", "defines no build"),
        ("def build(): ...", "defines no Options"),
        ("import not_there_at_all", "cannot be imported: ModuleNotFoundError"),
        ("def build(:", "cannot be imported: SyntaxError"),
    ],
)
def test_what_is_no_model_is_one_clear_line(file: Path, code: str, message: str) -> None:
    file.write_text(code)
    plugin_files.trust_file(str(file))
    with pytest.raises(ConfigError, match=message):
        models.load_model_module(ModelConfig(file=str(file)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.file: .*none.py cannot be read"):
        resolve_paths(parse_config({"model": {"file": str(tmp_path / "none.py")}}))
