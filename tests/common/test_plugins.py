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
