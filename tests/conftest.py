"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os

# Read by torch and numpy when they are imported: arrays this small are slower on several threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hashlib
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from common import noise
from sites.ecg.simulate import hospitals as generator
from sites.ecg.simulate.profiles import default_profiles

ROOT = Path(__file__).resolve().parent.parent
SEED = 11
CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")


# the same examples each time, however long one of them takes; WARDROUND_TEST_DRAW draws others
settings.register_profile(
    "tests",
    derandomize="WARDROUND_TEST_DRAW" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


def pytest_configure() -> None:
    """Take Ctrl-C also where the shell that started the tests ignores it, as for a background job: some test it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache of prepared data; the tests of one process share one.

    For the whole session, because fixtures of a module or session open data too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARDROUND_CACHE", str(tmp_path_factory.getbasetemp() / "wardround-cache"))
        yield


def fix_draws(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Draw secrets, names of runs and private noise from a name instead of the system's random numbers.

    Torch's own stream starts anew, so that what comes of it does not depend on which tests ran before.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    digest = hashlib.sha256(f"{name} {os.environ.get('WARDROUND_TEST_DRAW', '')}".encode()).digest()
    stream = np.random.default_rng(np.frombuffer(digest, np.uint32))
    monkeypatch.setattr(secrets, "token_hex", lambda count=32: stream.bytes(count).hex())
    monkeypatch.setattr(secrets, "randbits", lambda count: int.from_bytes(stream.bytes(16), "big") >> (128 - count))
    monkeypatch.setattr(noise, "os", SimpleNamespace(urandom=stream.bytes))


@pytest.fixture(autouse=True)
def _fixed_secrets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw secrets, names of runs and private noise from the test's name, so that no test depends on chance.

    WARDROUND_TEST_DRAW gives other draws: a test that fails with one of them is too narrow.
    """
    fix_draws(monkeypatch, request.node.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """Draw from the fixture's name where several tests share a fixture, whichever of them comes first."""
    if fixturedef.scope == "function":
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        fix_draws(patch, f"{request.node.nodeid} {fixturedef.argname} {getattr(request, 'param', '')}")
        return (yield)


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generated hospitals of three people: `north` (360 Hz, format 212), `south` (250 Hz, format 16)."""
    folder = tmp_path_factory.mktemp("generated") / "hospitals"
    generator.generate(folder, default_profiles(2, 3, SEED), minutes=0.5, seed=SEED)
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder for prepared data."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def mitdb_folder() -> Path:
    """The published recordings of the MIT-BIH Arrhythmia Database."""
    folder = ROOT / "data" / "mitdb"
    if not (folder / "RECORDS").is_file():
        if os.environ.get("WARDROUND_REQUIRE_DATA") == "1":
            pytest.fail(f"WARDROUND_REQUIRE_DATA=1, but {folder} does not hold the recordings")
        pytest.skip(f"the MIT-BIH recordings are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def nginx() -> str:
    """The path of the program nginx."""
    path = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if path is None:
        if os.environ.get("WARDROUND_REQUIRE_NGINX") == "1":
            pytest.fail("WARDROUND_REQUIRE_NGINX=1, but nginx is not installed")
        pytest.skip("nginx is not installed")
    return path


@pytest.fixture
def write_recording() -> Callable[..., None]:
    """Return a function that writes one small WFDB recording from its digital signal and its beats."""

    def write(
        folder: Path,
        name: str,
        digital: np.ndarray,
        sample: list[int],
        symbol: list[str],
        *,
        rate: float = 125,
        fmt: str = "16",
        leads: tuple[str, ...] = ("MLII", "V1"),
        units: str = "mV",
        gain: float = 1000.0,
        baseline: int = 0,
    ) -> None:
        count = digital.shape[1]
        wfdb = generator.wfdb
        wfdb.wrsamp(
            name,
            fs=rate,
            units=[units] * count,
            sig_name=list(leads[:count]),
            d_signal=digital.astype(np.int64),
            fmt=[fmt] * count,
            adc_gain=[gain] * count,
            baseline=[baseline] * count,
            write_dir=str(folder),
        )
        wfdb.wrann(name, "atr", sample=np.asarray(sample), symbol=symbol, fs=rate, write_dir=str(folder))

    return write


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Return a headless Chromium that keeps its console's messages."""
    if not CHROMIUM.exists() or not DRIVER.exists():
        missing = "chromium or chromedriver is not installed"
        pytest.fail(missing) if os.environ.get("WARDROUND_REQUIRE_BROWSER") else pytest.skip(missing)
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()
