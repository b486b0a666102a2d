"""The names and signatures that docs/reference/python.md promises to those who use Wardround from outside."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import typer

from common import plugins
from common.settings import Section
from experiments.cli.main import app, main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "python.md"

RESTORE = {
    "has_synthetic_data": "(folder: Path) -> bool",
    "list_local_layers": "(folder: Path) -> set[str]",
    "load_latent": "(folder: Path, name: str = federated) -> bytes",
    "load_outcome": "(folder: Path, name: str = federated) -> dict[str, Any]",
    "load_site_weights": (
        "(folder: Path, built: nn.Module, config: RunConfig, name: str, site: str | None) -> dict[str, Any]"
    ),
    "model": "(folder: Path, name: str = federated, site: str | None = None) -> tuple[nn.Module, Task]",
    "scaling": "(folder: Path, name: str = federated) -> Scaling | None",
}
COMMANDS = {
    "export",
    "monitor",
    "reports",
    "run",
    "series",
    "score",
    "evaluate",
    "report",
    "compare",
    "doctor",
    "new",
    "data",
    "server",
    "client",
    "privacy",
    "bench",
    "canary",
    "site",
    "audit",
}
ERRORS = {
    "WardroundError": 1,
    "SiteError": 1,
    "EngineError": 1,
    "ProtocolError": 1,
    "ApprovalPending": 1,
    "NotFiniteError": 1,
    "FetchError": 1,
    "StoppedError": 130,
    "AuditError": 1,
    "UsageError": 2,
    "ConfigError": 2,
    "DataError": 2,
    "LeakError": 2,
}
# Of a dataclass the fields in their order; those after "*" have defaults.
FIELDS = {
    "sites.cohort:DataCard": (
        "name title inputs labels sites splits source citation licence"
        " * synthetic warning question examples years setting site_kind"
    ),
    "sites.cohort:Patient": "id person examples * site published group",
    "sites.cohort:Cohort": (
        "task x features y patient patients persons split"
        " * excluded synthetic age sex utility hours until seconds kinds"
    ),
    "common.task:Task": (
        "name kind classes class_titles channels samples rate_hz features channel_names"
        " * units missing utility binary_features anomaly against"
    ),
}
# What crosses the wire; a change of these fields needs another PROTOCOL, so that both ends notice.
PROTOCOL = 12
MODEL_REQUEST = "config * round weights scaling method run_id state_round needed_rounds"
MESSAGES = {
    "common.requests:Method": "* local control pull",
    "common.requests:HandshakeRequest": "config * run_id",
    "common.requests:ScalingRequest": "config * base run_id",
    "common.requests:DomainShiftRequest": "config * base run_id",
    "common.requests:TrainRequest": f"{MODEL_REQUEST} class_counts total proximal control validation",
    "common.requests:ValidateRequest": f"{MODEL_REQUEST} latent",
    "common.requests:LatentRequest": MODEL_REQUEST,
    "common.requests:FinalTestRequest": f"{MODEL_REQUEST} latent threshold",
    "common.requests:CanaryRequest": f"{MODEL_REQUEST} proximal",
    "common.requests:GrowRequest": f"{MODEL_REQUEST} depth class_counts total",
    "common.replies:GrowReply": "site report * sums",
    "common.replies:CanaryReply": "site report",
    "common.replies:HandshakeReply": "site report",
    "common.replies:ScalingReply": "site report * sums",
    "common.replies:TrainReply": "site report * weights control",
    "common.replies:ValidateReply": "site report * tables noisy",
    "common.replies:LatentReply": "site report * sums",
    "common.replies:FinalTestReply": "site report * tables noisy",
    "common.replies:DomainShiftReply": "site report * sums",
}
# Of a plug-in: names that it must have, and the parameters of its functions, those that it may have included.
CONTRACTS: dict[str, tuple[str, set[str], dict[str, tuple[str, ...]]]] = {
    "sites.datasets": (
        "CARD",
        {"CARD", "Options", "task", "patients", "read"},
        {
            "task": ("options",),
            "patients": ("folder", "options", "store"),
            "read": ("folder", "options", "ids", "store"),
            "default_folder": ("options", "store", "seed"),
            "bounds": ("options",),
            "unlabelled_rows": ("source",),
            "strip_band": ("options",),
        },
    ),
    "common.models": ("build", {"Options", "build"}, {"build": ("task", "options")}),
    "server.strategies": (
        "build",
        {"Options", "build"},
        {"build": ("options",), "method": ("options", "model"), "require": ("options", "config")},
    ),
}
PLUGINS = [
    (package, name) for package, (marker, *_) in CONTRACTS.items() for name in plugins.list_plugins(package, marker)
]


def signature(function: Any) -> str:
    return str(inspect.signature(function)).replace("'", "")


def fields(kind: Any) -> str:
    """Return the names of a dataclass's fields, with `*` before the first that has a default."""
    names: list[str] = []
    for field in dataclasses.fields(kind):
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        names += ["*"] if optional and "*" not in names else []
        names.append(field.name)
    return " ".join(names)


def test_a_trained_model_is_restored_by_these_functions() -> None:
    restore = importlib.import_module("experiments.restore")
    assert sorted(restore.__all__) == sorted(RESTORE)
    assert {name: signature(getattr(restore, name)) for name in restore.__all__} == RESTORE


def test_the_command_has_these_subcommands() -> None:
    assert set(typer.main.get_command(app).commands) == COMMANDS  # type: ignore[attr-defined]
    assert signature(main) == "() -> None"


def test_errors_keep_their_names_and_exit_codes() -> None:
    errors = importlib.import_module("common.errors")
    kinds = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    assert {name: kind.exit_code for name, kind in kinds.items()} == ERRORS
    assert all(issubclass(kind, errors.WardroundError) for kind in kinds.values())


@pytest.mark.parametrize("where", FIELDS)
def test_types_that_plug_ins_build_keep_their_fields(where: str) -> None:
    module, _, name = where.partition(":")
    assert fields(getattr(importlib.import_module(module), name)) == FIELDS[where]


@pytest.mark.parametrize("where", MESSAGES)
def test_messages_keep_their_fields_while_the_protocol_has_its_number(where: str) -> None:
    module, _, name = where.partition(":")
    assert fields(getattr(importlib.import_module(module), name)) == MESSAGES[where], "raise PROTOCOL, here too"


def test_every_message_is_held() -> None:
    request_record = importlib.import_module("common.request_record")
    assert request_record.PROTOCOL == PROTOCOL
    kinds = [
        f"{module}:{name}"
        for module in ("common.requests", "common.replies")
        for name, kind in vars(importlib.import_module(module)).items()
        if inspect.isclass(kind) and kind.__module__ == module and "kind" in vars(kind)
    ]
    assert sorted([*kinds, "common.requests:Method"]) == sorted(MESSAGES)


@pytest.mark.parametrize(("package", "name"), PLUGINS, ids=[f"{package}.{name}" for package, name in PLUGINS])
def test_plug_ins_have_the_names_and_parameters_of_their_contract(package: str, name: str) -> None:
    marker, needed, parameters = CONTRACTS[package]
    module = plugins.load_plugin(package, marker, name, "plug-in")
    assert needed <= set(vars(module))
    assert issubclass(module.Options, Section)
    for function, expected in parameters.items():
        if hasattr(module, function):
            assert tuple(inspect.signature(getattr(module, function)).parameters) == expected


def test_flower_finds_its_apps() -> None:
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    assert isinstance(importlib.import_module("client.app").app, ClientApp)
    assert isinstance(importlib.import_module("server.app").app, ServerApp)


def test_the_page_names_all_of_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    functions = [*RESTORE, *(name for _, needed, may in CONTRACTS.values() for name in (*needed, *may))]
    assert [name for name in functions if f"`{name}`" not in page and f"`{name}(" not in page] == []
