from __future__ import annotations

from pathlib import Path

from experiments.studies import configuration_page

ROOT = Path(__file__).parents[3]


def test_the_configuration_page_is_what_the_program_says() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert page == configuration_page.render_configuration_page(), (
        "run: python -m experiments.studies.configuration_page > docs/reference/configuration.md"
    )


def test_keys_inside_keys_of_a_description_are_listed() -> None:
    page = configuration_page.render_configuration_page()
    _, _, after = page.partition("### `time` in `data.options` of `table`")
    section = after.partition("\n### ")[0]
    assert [key for key in ("column", "ahead_hours", "after", "carry") if f"| `{key}` |" in section] == [
        "column", "ahead_hours", "after", "carry",
    ]  # fmt: skip
    assert "### `inputs` in `data.options` of `table`" in page


def test_every_configuration_under_experiments_is_valid() -> None:
    from common import config

    files = sorted((ROOT / "experiments").glob("*.yaml"))
    assert files
    for file in files:
        assert config.load_config(file).name == file.stem.replace("_", "-")
