from __future__ import annotations

from pathlib import Path

from experiments import reference

ROOT = Path(__file__).parents[2]


def test_the_configuration_page_is_what_the_program_says() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference.markdown(), "run: python -m experiments.reference > docs/configuration.md"


def test_every_configuration_under_experiments_is_valid() -> None:
    from common import config

    files = sorted((ROOT / "experiments").glob("*.yaml"))
    assert files
    for file in files:
        assert config.load(file).name == file.stem.replace("_", "-")
