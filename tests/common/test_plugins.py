from __future__ import annotations

import sys
from pathlib import Path

import pytest

from common import plugins
from common.errors import ConfigError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "shelf_of_plugins"
    folder.mkdir()
    files = {
        "__init__": "def build(): ...",
        "beta": "import sys\nsys.loaded_beta = True\ndef build(task):\n    return 'b'\n",
        "alpha": "def build(): return 'a'",
        "card": "CARD = 1\n",
        "typed": "CARD: int = 1\n",
        "_private": "def build(): ...",
        "mentions": "# def build\ndef builder(): ...\nx = 'CARD = 1'\nif x:\n    def build(): ...\n",
        "uses": "CARDS = 1\nprint(CARD) if False else None\n",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "build.txt").write_text("def build(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    return "shelf_of_plugins"


def test_names_are_the_files_that_define_the_marker(package: str) -> None:
    assert plugins.list_plugins(package, "build") == ("alpha", "beta")
    assert plugins.list_plugins(package, "CARD") == ("card", "typed")


def test_listing_imports_no_plugin(package: str) -> None:
    plugins.list_plugins(package, "build")
    assert not hasattr(sys, "loaded_beta")
    assert plugins.load_plugin(package, "build", "alpha", "thing").build() == "a"


@pytest.mark.parametrize("name", ["gamma", "_private", "mentions", "", "../alpha"])
def test_an_unknown_name_is_answered_with_the_known_ones(package: str, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugins.load_plugin(package, "build", name, "thing")
    assert str(caught.value) == f"no thing named {name!r}: choose one of alpha, beta"


def test_our_own_folders_have_plugins() -> None:
    assert {"cnn", "lstm"} <= set(plugins.list_plugins("common.models", "build"))
    assert {"mitdb", "synthetic"} <= set(plugins.list_plugins("sites.datasets", "CARD"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path in which a package with plug-ins is installed."""
    about = tmp_path / "strangers-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[wardround.models]\nstranger = a_stranger\nbroken = a_broken_one\ncnn = a_stranger\nnone = not_there\n"
    )
    (tmp_path / "a_stranger.py").write_text("Options = None\ndef build(task, options):\n    return 'mine'\n")
    (tmp_path / "a_broken_one.py").write_text("def build(): ...\nraise ValueError('no such library')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_plugins_of_installed_packages_are_among_the_others(installed: Path) -> None:
    names = plugins.list_plugins("common.models", "build")
    assert {"stranger", "broken", "cnn", "mlp"} <= set(names)
    assert "none" not in names
    assert "a_stranger" not in sys.modules  # listed, not imported
    assert plugins.load_plugin("common.models", "build", "stranger", "model").build(None, None) == "mine"


def test_what_is_installed_is_read_once(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is built for every message, and a search of the installed packages takes several milliseconds."""
    reads: list[str] = []
    before = plugins.entry_points

    def read(group: str) -> object:
        reads.append(group)
        return before(group=group)

    monkeypatch.setattr(plugins, "entry_points", read)
    for _ in range(3):
        assert plugins.load_plugin("common.models", "build", "stranger", "model").build(None, None) == "mine"
    assert reads == ["wardround.models"]


def test_a_plugin_of_this_program_goes_before_one_of_its_name(installed: Path) -> None:
    assert plugins.load_plugin("common.models", "build", "cnn", "model").__name__ == "common.models.cnn"


def test_a_package_that_cannot_be_imported_is_named(installed: Path) -> None:
    with pytest.raises(ConfigError, match=r"package strangers cannot be imported \(ValueError: no such library\)"):
        plugins.load_plugin("common.models", "build", "broken", "model")
