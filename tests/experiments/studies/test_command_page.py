from __future__ import annotations

from pathlib import Path

from experiments.studies import command_page

ROOT = Path(__file__).parents[3]


def test_the_page_of_commands_is_what_the_program_says() -> None:
    page = (ROOT / "docs" / "reference" / "command_line.md").read_text()
    assert page == command_page.render_command_page(), (
        "run: python -m experiments.studies.command_page > docs/reference/command_line.md"
    )


def test_every_group_and_option_is_listed() -> None:
    page = command_page.render_command_page()
    assert "## `wardround site approve`" in page
    assert "| `--quiet`, `-q` | Print only the run's folder. |  |" in page
    assert "| `--runs PATH` | The folder of all run folders. | `runs` |" in page
