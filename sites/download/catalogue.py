"""Where the data sets are published: what `wardround data fetch` can fetch, and what must be downloaded by hand.

Title, licence and citation are in the data set's own module (its CARD); here is only what a download needs. PhysioNet
publishes a `SHA256SUMS.txt` with every project version, which is fetched first. UCI publishes no sums: those below
were computed from its files and agree with those that several public projects record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import ConfigError, DataError

SUMS_FILE = "SHA256SUMS.txt"


@dataclass(frozen=True)
class Download:
    """How one data set is downloaded.

    Attributes:
        name: the data set's name in a configuration.
        slug: the publisher's name for it, and its folder under `data/`.
        version: the published version.
        page: URL of its page.
        size: size of the files that the reader needs, in words.
        files: URL of the folder of its files, with a slash at the end; "" where a login is needed.
        wanted: patterns of the paths that the reader needs.
        parts: patterns of parts to choose from by name, such as the sampling rates of PTB-XL.
        sums: SHA-256 of each file, where the publisher lists none.
        count: pattern of the files of a recording or patient each, and how many there are; None: not stated.
        by_hand: instructions where the program cannot fetch the files, else "".
    """

    name: str
    slug: str
    version: str
    page: str
    size: str
    files: str = ""
    wanted: tuple[str, ...] = ("*",)
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sums: Mapping[str, str] = field(default_factory=dict)
    count: tuple[str, int] | None = None
    by_hand: str = ""

    @property
    def folder(self) -> Path:
        """Default folder of the files."""
        return Path("data") / self.slug


def _physionet(
    name: str,
    slug: str,
    version: str,
    size: str,
    wanted: tuple[str, ...],
    parts: Mapping[str, tuple[str, ...]] | None = None,
    count: tuple[str, int] | None = None,
) -> Download:
    return Download(
        name=name,
        slug=slug,
        version=version,
        page=f"https://physionet.org/content/{slug}/{version}/",
        size=size,
        files=f"https://physionet.org/files/{slug}/{version}/",
        wanted=(*wanted, "LICENSE.txt"),
        parts=parts or {},
        count=count,
    )


_ALL = (
    _physionet(
        "mitdb",
        "mitdb",
        "1.0.0",
        "94 MB",
        ("[12][0-9][0-9].hea", "[12][0-9][0-9].dat", "[12][0-9][0-9].atr", "RECORDS"),
        count=("[12][0-9][0-9].hea", 48),
    ),
    _physionet(
        "ptbdb",
        "ptbdb",
        "1.0.0",
        "about 1.7 GB",
        ("patient*/*", "RECORDS", "CONTROLS"),
        count=("patient*/*.hea", 549),
    ),
    _physionet(
        "ptbxl",
        "ptb-xl",
        "1.0.3",
        "about 0.5 GB (100 Hz) + 2.6 GB (500 Hz)",
        ("ptbxl_database.csv", "scp_statements.csv"),
        {"100": ("records100/*",), "500": ("records500/*",)},
        count=("records100/*.hea", 21_799),
    ),
    _physionet(
        "sepsis", "challenge-2019", "1.0.0", "about 255 MB", ("training/*.psv",), count=("training/*.psv", 40_336)
    ),
    _physionet(
        "eicu",
        "eicu-crd-demo",
        "2.0.1",
        "about 4 MB",
        tuple(
            f"{table}.csv.gz"
            for table in (
                "patient",
                "hospital",
                "apacheApsVar",
                "apachePredVar",
                "apachePatientResult",
                "admissionDx",
                "diagnosis",
                "pastHistory",
                "vitalAperiodic",
            )
        ),
    ),
    Download(
        name="heart_disease",
        slug="heart-disease",
        version="1989",
        page="https://archive.ics.uci.edu/dataset/45/heart+disease",
        size="40 kB",
        files="https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/",
        sums={
            "processed.cleveland.data": "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
            "processed.hungarian.data": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
            "processed.switzerland.data": "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
            "processed.va.data": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
        },
    ),
    Download(
        name="heartbeat_csv",
        slug="heartbeat",
        version="1",
        page="https://www.kaggle.com/datasets/shayanfazeli/heartbeat",
        size="about 580 MB",
        by_hand=(
            "Kaggle gives it only to who is logged in: download it from "
            "https://www.kaggle.com/datasets/shayanfazeli/heartbeat and unpack mitbih_train.csv, mitbih_test.csv, "
            "ptbdb_normal.csv and ptbdb_abnormal.csv into data/heartbeat"
        ),
    ),
)
SOURCES: Mapping[str, Download] = {item.name: item for item in _ALL}


def find_download(name: str) -> Download | None:
    """Return the download of a data set, found by its name in Wardround or at its publisher; None if there is none."""
    return SOURCES.get(name) or next((item for item in _ALL if item.slug == name), None)


def require_download(name: str) -> Download:
    """Return the download of a data set that the program can fetch.

    Raises:
        ConfigError: there is no such data set to fetch.
        DataError: it must be downloaded by hand; the message says where.
    """
    download = find_download(name)
    if download is None:
        known = ", ".join(sorted(item.name for item in _ALL if item.files))
        raise ConfigError(f"nothing to fetch for {name!r}: choose one of {known}")
    if not download.files:
        raise DataError(f"{download.name} cannot be fetched by this program: {download.by_hand}")
    return download
