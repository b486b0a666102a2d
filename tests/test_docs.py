"""What the documentation says can be run, opened and imported is so."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from common import config
from common.errors import ConfigError
from common.sections.data import SitesConfig
from experiments.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GENERATED = ("data/", "runs/")  # what a reader's own commands make
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FOLDERS = "common|sites|client|server|experiments|tests|docs"


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(text: str) -> list[tuple[str, str]]:
    """Return (language, content) of each fenced block, also of those in lists, which are indented."""
    return [(language, textwrap.dedent(content)) for _, language, content in FENCE.findall(text)]


def called(line: str) -> str | None:
    """Return what follows `wardround` in a command line, without its comment, or None."""
    result = re.match(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?wardround(?=\s|$)(.*)", line.split("  #")[0].strip())
    return result[1].strip() if result else None


def commands_in_blocks(text: str) -> list[str]:
    """Return the calls of wardround in fenced shell blocks, continued lines joined."""
    blocks = (content.replace("\\\n", " ") for language, content in fences(text) if language == "sh")
    return [command for block in blocks for line in block.splitlines() if (command := called(line)) is not None]


def commands_in_sentences(text: str) -> list[str]:
    """Return the calls of wardround in inline code; a line break within is a space."""
    code = re.findall(r"`([^`]+)`", FENCE.sub("", text))
    return [command for line in code if (command := called(line.replace("\n", " "))) is not None]


def all_commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return commands_in_blocks(text) + commands_in_sentences(text)


@cache
def build_program() -> click.Command:
    """Return the program's command; building it takes long."""
    return typer.main.get_command(app)


def parse(command: str) -> dict[str, Any]:
    """Return the options and arguments that a command line gives, by name, with their values.

    A synopsis is accepted as well: its brackets and dots are ignored, and of alternatives the first is read. An
    option that is only mentioned, as in `wardround client --policy`, is given a value.

    Raises:
        click.UsageError: the program has no such command or option.
    """
    words = [word for word in shlex.split(command) if word not in ("...", "...]")]
    words = [word for before, word in zip(["", *words], words, strict=False) if "|" not in (before, word)]
    arguments = [word[word.count("[") > word.count("]") or word.startswith("[-") :] for word in words]
    arguments = [word[:-1] if word.count("]") > word.count("[") else word for word in arguments]
    current = build_program()
    context = click.Context(current, info_name="wardround")
    while isinstance(current, click.Group) and arguments and not arguments[0].startswith("-"):
        subcommand = current.get_command(context, name := arguments.pop(0))
        if subcommand is None:
            raise click.UsageError(f"no command {name}")
        current, context = subcommand, click.Context(subcommand, parent=context, info_name=name)
    if len(arguments) == 1 and arguments[0].startswith("--"):
        options = [item for item in current.params if isinstance(item, click.Option) and arguments[0] in item.opts]
        arguments += ["VALUE"] if options and not options[0].is_flag else []
    values, rest, _ = current.make_parser(context).parse_args(arguments)
    if rest:
        raise click.UsageError(f"unexpected: {rest}")
    return {param.opts[0]: values[param.name] for param in current.params if param.name in values}


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md"} <= {page_name(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_and_option_exists(page: Path) -> None:
    for command in all_commands(page):
        try:
            parse(command)
        except click.UsageError as error:
            pytest.fail(f"wardround {command}: {error.format_message()}")


def test_the_check_of_commands_reads_blocks_synopses_and_sentences() -> None:
    text = (
        "Say `wardround client\n--policy`:\n\n```sh\n.venv/bin/wardround run A.yaml \\\n  --quiet  # few words\n"
        "RAY_ADDRESS=10.0.0.1:6379 wardround run B.yaml\n```\n\n1. Then:\n\n   ```sh\n   wardround report RUN\n   ```\n"
    )
    assert commands_in_blocks(text) == ["run A.yaml    --quiet", "run B.yaml", "report RUN"]
    assert commands_in_sentences(text) == ["client --policy"]
    assert parse("run CONFIG.yaml [--set section.key=value ...] [--quiet | --json]")["--quiet"] is True
    assert sum(len(all_commands(page)) for page in PAGES) > 80


@pytest.mark.parametrize("command", ["run X.yaml --sett a=1", "bench nothing", "run X.yaml --set a=1 --set", "nothing"])
def test_the_check_of_commands_finds_wrong_ones(command: str) -> None:
    with pytest.raises(click.UsageError):
        parse(command)


def make_settings(command: str) -> tuple[Path, list[str]] | None:
    """Return the configuration file and the settings that a command gives, if the file is one of ours."""
    values = parse(command)
    file = next((value for value in values.values() if isinstance(value, str) and value.endswith(".yaml")), "")
    settings = [value for value in values.get("--set") or () if not value.endswith("=...") and "$" not in value]
    return (ROOT / file, settings) if file and (ROOT / file).is_file() else None


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_setting_that_a_command_gives_is_accepted(page: Path) -> None:
    for command in all_commands(page):
        given = make_settings(command)
        if given:
            try:
                config.load_config(*given)
            except ConfigError as error:
                pytest.fail(f"wardround {command}: {error}")


def test_the_check_of_settings_finds_wrong_ones() -> None:
    given = make_settings("run experiments/synthetic.yaml --set training.epoch=1")
    assert given is not None
    with pytest.raises(ConfigError, match="epoch"):
        config.load_config(*given)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(target)
    assert missing == []


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", index.read_text("utf-8"))}
    assert set((ROOT / "docs").rglob("*.md")) - linked == {index}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_path_that_is_named_exists(page: Path) -> None:
    """Names with `*`, NAME or `...` are patterns: something must fit them."""
    if page.name == "CHANGELOG.md":  # names what was
        return
    missing = []
    for named in re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w/.*-]*[\w/*])", page.read_text(encoding="utf-8")):
        pattern = re.sub(r"\b(?:NAME|X)\b", "*", named)
        exists = any(ROOT.glob(pattern.rstrip("/"))) if "*" in pattern else (ROOT / named).exists()
        if not exists and not named.startswith(GENERATED):
            missing.append(named)
    assert missing == []


def python_sources(text: str) -> Iterator[str]:
    """Yield the Python code of a page: fenced blocks, `python -c` programs, and programs from standard input."""
    for language, content in fences(text):
        if language == "python":
            yield (
                content
                if ">>>" not in content
                else "\n".join(line[4:] for line in content.splitlines() if re.match(r"(?:>>>|\.\.\.) ?", line))
            )
        if language == "sh":
            yield from (program[1] for program in re.findall(r"python -c (['\"])(.*?)\1\s*$", content, re.S | re.M))
            yield from re.findall(r"<<'END'\n(.*?)^END$", content, re.DOTALL | re.MULTILINE)


def missing_names(source: str) -> list[str]:
    """Return the modules, and the names in our modules, that a program imports or uses and that do not exist."""
    tree, modules, missing = ast.parse(source), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and re.match(rf"(?:{FOLDERS})\b", node.module or ""):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                package = importlib.import_module(str(node.module))
                if not hasattr(package, alias.name) and hasattr(package, "__path__") and importlib.util.find_spec(full):
                    importlib.import_module(full)
                value = getattr(package, alias.name, None)
                missing += [full] if value is None else []
                if inspect.ismodule(value):
                    modules[alias.asname or alias.name] = value
        elif isinstance(node, ast.Import):
            missing += [alias.name for alias in node.names if not importlib.util.find_spec(alias.name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            missing += [f"{node.value.id}.{node.attr}"] if module and not hasattr(module, node.attr) else []
    return missing


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_python_code_compiles_and_its_names_exist(page: Path) -> None:
    for source in python_sources(page.read_text(encoding="utf-8")):
        assert missing_names(source) == []


def test_the_check_of_python_code_finds_wrong_names() -> None:
    source = "from common import seeds\nfrom common.seeds import nothing\nimport no_such_package\nseeds.no_such_name(1)"
    assert missing_names(source) == ["common.seeds.nothing", "no_such_package", "seeds.no_such_name"]


def resolves(dotted: str) -> bool:
    """Return whether a dotted name is a module of ours, a name in one, or a key of the section `sites`."""
    package, *names = dotted.split(".")
    if package == "sites" and names[0] in SitesConfig.model_fields:
        return True
    value: object = importlib.import_module(package)
    for i, name in enumerate(names, start=2):
        if not hasattr(value, name):
            if not inspect.ismodule(value) or not hasattr(value, "__path__"):
                return False
            module = ".".join(dotted.split(".")[:i])
            if not importlib.util.find_spec(module):
                return False
            importlib.import_module(module)
        value = getattr(value, name)
    return True


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_dotted_name_of_ours_exists(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    names = re.findall(rf"`((?:{FOLDERS})(?:\.[A-Za-z_]\w*)+)(?:\([^`]*\))?`", prose)
    files = (".csv", ".json", ".pem", ".key", ".md", ".done")
    assert [name for name in names if not name.endswith(files) and not resolves(name)] == []


def test_the_check_of_dotted_names_finds_wrong_ones() -> None:
    assert resolves("common.seeds.seed_for")
    assert resolves("sites.fold")
    assert not resolves("common.seeds.nothing")
    assert not resolves("common.nothing")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_modules_that_are_run_exist(page: Path) -> None:
    for module in re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8")):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in page.read_text("utf-8")], ids=page_name)
def test_examples_give_what_the_page_shows(page: Path) -> None:
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried
    assert not failed


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["title"].lower() == project["name"]


def test_the_hooks_before_a_commit_are_checks_of_make_check() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    checks = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ncheck:")[2].partition("\n\n")[0]
    for hook in repository["hooks"]:
        program = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --fix")
        assert f"$(BIN)/{program}" in checks, hook["id"]
