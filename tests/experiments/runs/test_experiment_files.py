"""What `wardround run` says about a file that is no configuration: data, and the description of data."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigError
from experiments.runs.experiment_files import find_experiment


@pytest.mark.parametrize(
    ("name", "target"),
    [("clinics.csv", "clinics.csv"), ("CLINICS.CSV", "CLINICS.CSV"), ("a.parquet", "a.parquet"), ("100.hea", "")],
)
def test_data_are_described_before_they_are_run(tmp_path: Path, name: str, target: str) -> None:
    (tmp_path / name).write_bytes(b"age;died\n70;1\n")
    with pytest.raises(ConfigError) as error:
        find_experiment(tmp_path / name)
    described = str(tmp_path / target) if target else str(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / name} holds data: wardround data init {described} describes them and writes the file to run"
    )


def test_a_description_is_no_configuration(tmp_path: Path) -> None:
    described = tmp_path / "table.yaml"
    described.write_text("# of three clinics\ndataset: table\nformat: 1\n")
    with pytest.raises(ConfigError, match=r"table.yaml describes data and is no .*: run the configuration next to it"):
        find_experiment(described)
    run = tmp_path / "clinics-run.yaml"
    run.write_text("name: clinics\ndata:\n  dataset: table\n")
    with pytest.raises(ConfigError) as error:
        find_experiment(described)
    assert str(error.value).endswith(f"is no configuration of a run: run {run}")
    assert find_experiment(run) == run
