"""Every package says that it has types (PEP 561), so that programs that use it can be checked."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_package_has_a_typing_marker_that_the_wheel_includes() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {path.parent.name for path in ROOT.glob("*/py.typed")} == packages
    assert set(build["targets"]["wheel"]["include"]) == {f"/{name}" for name in packages}
