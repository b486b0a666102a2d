"""Calls of a SuperLink: the bundle of a run, keys, and errors of one line."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from client.supernode import create_node_key, require_settings_only
from common.errors import ConfigError, EngineError
from server.control import Control, build_bundle
from server.superlink import format_app_settings


def test_a_bundle_holds_its_files_and_their_checksums(tmp_path: Path) -> None:
    settings = format_app_settings("{}", tmp_path).encode()
    bundle = build_bundle({"pyproject.toml": settings})
    assert build_bundle({"pyproject.toml": settings}) == bundle
    require_settings_only(bundle)
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        assert archive.read("pyproject.toml") == settings
        listed = archive.read(".info/CONTENT").decode()
    assert listed == f"pyproject.toml,{hashlib.sha256(settings).hexdigest()},{len(settings) * 8}"


def test_what_is_no_key_is_refused_before_any_call(tmp_path: Path) -> None:
    create_node_key(tmp_path / "node.key")
    (tmp_path / "rsa.pub").write_text("ssh-rsa nonsense")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    for name, why in (
        ("rsa.pub", "is no public node key"),
        ("ca.pem", "is no public node key"),
        ("absent.pub", "no file .*absent.pub: name the public key that the hospital sent"),
        ("node.key", r"is a private key, which never leaves its hospital: register its public half \(node.key.pub\)"),
    ):
        with pytest.raises(ConfigError, match=why):
            Control("127.0.0.1:1", None).register_node(tmp_path / name, "north")


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    create_node_key(tmp_path / "node.key")
    with pytest.raises(EngineError, match=r"^the server at 127\.0\.0\.1:1 gave no answer when asked to reg"):
        Control("127.0.0.1:1", None).register_node(tmp_path / "node.key.pub", "north")
