from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from client.state_folder import claim_state_folder
from common.errors import ConfigError


def test_a_folder_is_one_sites(tmp_path: Path) -> None:
    with claim_state_folder(tmp_path / "state", "north"):
        pass
    with claim_state_folder(tmp_path / "state", "north"):
        pass
    with (
        pytest.raises(ConfigError, match="belongs to the site north, not to mallory"),
        claim_state_folder(tmp_path / "state", "mallory"),
    ):
        pass


def test_two_clients_do_not_share_it(tmp_path: Path) -> None:
    with (
        claim_state_folder(tmp_path / "state", "north"),
        pytest.raises(ConfigError, match=rf"in use by another client \(process {os.getpid()}\)"),
        claim_state_folder(tmp_path / "state", "north"),
    ):
        pass


def test_a_folder_that_others_can_read_is_closed(tmp_path: Path) -> None:
    inner = tmp_path / "state" / "runs"
    inner.mkdir(parents=True)
    for path in (tmp_path / "state", inner):
        path.chmod(0o755)
    with claim_state_folder(tmp_path / "state", "north"):
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state", inner)]
    assert modes == [0o700, 0o700]
