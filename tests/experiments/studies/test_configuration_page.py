from __future__ import annotations

from pathlib import Path

from experiments.studies import configuration_page

ROOT = Path(__file__).parents[3]


def test_the_configuration_page_is_what_the_program_says() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert page == configuration_page.render_configuration_page(), (
        "run: python -m experiments.studies.configuration_page > docs/reference/configuration.md"
    )


def test_every_configuration_under_experiments_is_valid() -> None:
    from common import config

    files = sorted((ROOT / "experiments").glob("*.yaml"))
    assert files
    for file in files:
        assert config.load_config(file).name == file.stem.replace("_", "-")
