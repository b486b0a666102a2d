"""A model exported for a small machine gives the run's scores, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("tornado")
pytest.importorskip("onnxruntime")

from common.errors import DataError, UsageError
from experiments.bench.monitor_edge import auroc, compare_auroc, start_service
from experiments.cli.main import app
from experiments.monitor.edge_export import export_edge_model
from experiments.monitor.model_sources import describe_model, open_beat_model
from experiments.scoring.score import open_model, score_rows
from sites.ecg.recordings import Recording
from sites.ecg.streaming.whole import CausalBeats, cut_causal_beats, detect_beats
from sites.unlabelled_rows import ScorableRows, unlabelled_cohort
from tests.experiments.monitor.conftest import heartbeats

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def edge_folder(causal_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_edge_model(causal_run, tmp_path_factory.mktemp("edge") / "float").folder


def cut_beats(seconds: float = 120) -> CausalBeats:
    signal = heartbeats(seconds) + 0.3 * np.random.default_rng(3).normal(size=(int(seconds * 250), 1))
    return cut_causal_beats(signal, 250.0, detect_beats(signal, 250.0), 1)


def test_the_exported_model_gives_the_scores_of_the_batch_path(causal_run: Path, edge_folder: Path) -> None:
    cut = cut_beats()
    found = open_beat_model(edge_folder).score_cut(cut)
    scoring = open_model(causal_run)
    x = np.concatenate([cut.x, cut.x - cut.template], axis=1)
    cohort = unlabelled_cohort(scoring.task, x, found.columns, ("someone",), False)
    batch = score_rows(scoring, ScorableRows(cohort, {}, ()))
    assert len(found.names) > 100
    np.testing.assert_allclose(found.probability, batch.probability, atol=1e-5)
    assert found.names == tuple(batch.predicted.tolist())
    assert np.ptp(found.probability, axis=0).min() > 1e-4  # the beats differ
    own = open_beat_model(causal_run).score_cut(cut)
    np.testing.assert_array_equal(own.probability, batch.probability)
    assert own.names == found.names


def test_a_beat_without_a_finite_score_has_no_class_and_raises_no_alarm(edge_folder: Path) -> None:
    cut = cut_beats(30)
    cut.x[3] = np.nan
    found = open_beat_model(edge_folder).score_cut(cut)
    assert [i for i, name in enumerate(found.names) if not name] == [3]
    assert (found.alarm[3], found.probability[3].max()) == (0.0, 0.0)
    assert np.isfinite(found.probability).all()


def test_eight_bits_are_smaller_and_close(causal_run: Path, edge_folder: Path, tmp_path: Path) -> None:
    signal = heartbeats(300).astype(np.float32)
    none = np.array([], dtype=int)
    recording = Recording("a", 250.0, ("II",), signal, none, none.astype(str), ())
    made = export_edge_model(causal_run, tmp_path / "int8", calibration=[recording])
    assert made.size < 0.5 * (edge_folder / "model.onnx").stat().st_size
    assert json.loads((made.folder / "edge.json").read_text())["bits"] == 8
    cut = cut_causal_beats(signal, 250.0, detect_beats(signal, 250.0), 1)
    whole, short = (open_beat_model(path).score_cut(cut).probability for path in (edge_folder, made.folder))
    assert 0 < np.abs(whole - short).max() < 0.1
    short_one = Recording("b", 250.0, ("II",), signal[:5000], none, none.astype(str), ())
    with pytest.raises(DataError, match="--calibration"):
        export_edge_model(causal_run, tmp_path / "few", calibration=[short_one])
    assert not (tmp_path / "few").exists()


def test_a_changed_or_incomplete_folder_is_refused(edge_folder: Path, tmp_path: Path) -> None:
    for name in ("edge.json", "model.onnx"):
        (tmp_path / name).write_bytes((edge_folder / name).read_bytes())
    assert describe_model(tmp_path) == describe_model(edge_folder)
    with pytest.raises(UsageError, match="leave them out"):
        open_beat_model(tmp_path, "pooled")
    content = bytearray((tmp_path / "model.onnx").read_bytes())
    content[100] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(DataError, match="not the file that was exported"):
        open_beat_model(tmp_path)
    (tmp_path / "edge.json").write_text("{}")
    with pytest.raises(DataError, match="wardround monitor export"):
        open_beat_model(tmp_path)


def test_the_command_wants_recordings_for_eight_bits_only(causal_run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["monitor", "export", str(causal_run), "--out", str(tmp_path / "m"), "--int8"])
    assert result.exit_code != 0
    assert not (tmp_path / "m").exists()
    result = CliRunner().invoke(app, ["monitor", "export", str(causal_run), "--out", str(tmp_path / "m")])
    assert result.exit_code == 0
    assert "probabilities differ by" in result.output


def test_nothing_that_scores_an_exported_model_loads_torch(edge_folder: Path) -> None:
    code = (
        "import sys, pathlib\nimport experiments.cli.monitor, experiments.monitor.run, experiments.monitor.worker\n"
        "from experiments.monitor.model_sources import open_beat_model\n"
        f"open_beat_model(pathlib.Path({str(edge_folder)!r})).warm_up()\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "onnxruntime" in loaded.split()
    assert set(loaded.split()) & {"torch", "flwr", "sklearn", "pandas", "pyarrow", "wfdb", "opacus"} == set()


@pytest.mark.slow
@pytest.mark.processes
def test_the_whole_service_runs_without_torch(edge_folder: Path) -> None:
    libraries: list[set[str]] = []

    def look(process: object) -> None:
        every = [process, *process.children(recursive=True)]  # type: ignore[attr-defined]
        libraries.extend({Path(item.path).name for item in each.memory_maps()} for each in every)

    seconds, memory = start_service(edge_folder, look)
    assert len(libraries) >= 2  # the service and its worker
    assert any(name.startswith("onnxruntime") for names in libraries for name in names)
    assert not [name for names in libraries for name in names if "torch" in name]
    assert 0 < seconds < 60
    assert 50 < memory < 2000


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    draw = np.random.default_rng(1)
    score, event = draw.integers(0, 6, 80).astype(float), draw.random(80) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in score[event] for b in score[~event]]
    assert auroc(score, event) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc(score, np.zeros(80, dtype=bool)))
    logits = draw.normal(size=(80, 3))
    rows = compare_auroc({"a": logits, "b": logits + 5}, draw.integers(0, 3, 80), np.repeat(np.arange(8), 10), 2)
    assert rows["b"]["auroc_alarm_difference"] == 0
    assert rows["b"]["difference_95"] == [0, 0]
