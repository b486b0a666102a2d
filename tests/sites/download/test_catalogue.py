"""The catalogue of published data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigError, DataError
from sites import datasets
from sites.download import catalogue, destination, fetch


def test_the_catalogue_names_data_sets_and_where_they_are_published() -> None:
    assert {item.name for item in catalogue.SOURCES.values()} <= set(datasets.dataset_names())
    for item in catalogue.SOURCES.values():
        assert item.page.startswith("https://")
        assert catalogue.find_download(item.slug) is catalogue.find_download(item.name) is item
        assert bool(item.files) != bool(item.by_hand)
        assert all(len(value) == 64 for value in item.sums.values())
    assert catalogue.SOURCES["mitdb"].files == "https://physionet.org/files/mitdb/1.0.0/"
    with pytest.raises(DataError, match="Kaggle"):
        catalogue.require_download("heartbeat_csv")
    with pytest.raises(ConfigError, match="choose one of eicu, heart_disease, mitdb, ptbdb, ptbxl, sepsis"):
        catalogue.require_download("synthetic")


def test_which_files_of_the_published_ones_are_chosen() -> None:
    mit = ["100.hea", "100.dat", "100.atr", "100.xws", "102-0.atr", "mitdbdir/x.htm", "x_mitdb/x_100.dat", "RECORDS"]
    assert fetch.select_paths(catalogue.SOURCES["mitdb"], mit, (), None, False) == [
        "100.atr",
        "100.dat",
        "100.hea",
        "RECORDS",
    ]
    xl = ["ptbxl_database.csv", "records100/00000/00001_lr.hea", "records500/00000/00001_hr.hea", "RECORDS"]
    assert fetch.select_paths(catalogue.SOURCES["ptbxl"], xl, (), "100", False) == xl[:2]
    assert fetch.select_paths(catalogue.SOURCES["ptbxl"], xl, (), None, False) == xl[:3]


@pytest.mark.realdata
def test_the_sums_of_the_heart_disease_files_are_those_of_the_files() -> None:
    folder = Path(__file__).resolve().parents[3] / "data" / "heart-disease"
    if not folder.is_dir():
        pytest.skip("no data/heart-disease")
    for path, value in catalogue.SOURCES["heart_disease"].sums.items():
        assert destination.file_sha256(folder / path) == value
