"""docs/reference/command_line.md, generated from the program, so that no command or option is undocumented.

python -m experiments.studies.command_page > docs/reference/command_line.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import typer

from experiments.markdown_table import render_markdown_table

HEAD = """# Command line

Every command with its arguments and options. `--help` after a command prints the same. This page is generated from the
program by `python -m experiments.studies.command_page`.

Exit codes: 0 success; 1 a failure; 2 an error that you can correct; 130 interrupted.
"""


def render_command_page() -> str:
    """Return docs/reference/command_line.md."""
    from experiments.cli.main import app

    command = typer.main.get_command(app)
    parts = [HEAD, "## `wardround`\n", *_describe(command, "wardround")]
    for path, each in _list_commands(command, "wardround"):
        parts += [f"\n## `{path}`\n", *_describe(each, path)]
    return "\n".join(parts) + "\n"


def _list_commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below another one with its path, a group before its commands."""
    if isinstance(command, click.Group):
        for name, each in sorted(command.commands.items()):
            yield f"{path} {name}", each
            yield from _list_commands(each, f"{path} {name}")


def _describe(command: click.Command, path: str) -> list[str]:
    """Return the lines of one command: what it does, how it is called, and its options."""
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    lines = [_text(command.help), "", f"```text\n{usage}\n```"]
    rows = [
        (_name(parameter), _text(getattr(parameter, "help", "")), _default(parameter, context))
        for parameter in command.params
        if not getattr(parameter, "hidden", False)
    ]
    if rows:
        lines += ["", render_markdown_table(["option", "meaning", "default"], rows)]
    if isinstance(command, click.Group):
        names = [(f"`{name}`", _text(each.get_short_help_str(200))) for name, each in sorted(command.commands.items())]
        lines += ["", render_markdown_table(["command", "does"], names)]
    return lines


def _name(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return f"`{parameter.human_readable_name}`"
    kind = "" if getattr(parameter, "is_flag", False) else f" {parameter.type.name.upper()}"
    names = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(f"`{name}{kind}`" for name in names)


def _default(parameter: click.Parameter, context: click.Context) -> str:
    value = parameter.get_default(context, call=False)
    if parameter.required:
        return "required"
    if value is None or value is False or callable(value) or value in ((), []):
        return ""
    return f"`{value}`"


def _text(text: str | None) -> str:
    """Return a help text as one line of Markdown."""
    line = re.sub(r"\s+", " ", text or "").strip()
    return line.replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    print(render_command_page(), end="")
