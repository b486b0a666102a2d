"""Measure what the gate costs: a run of hospitals with folders, registers and policies of their own, in one process.

python -m experiments.studies.gate_utility CONFIG.yaml --folders DIR [--policy POLICY.yaml] [--repeats N]

DIR has one folder with data for each hospital. Prints pooled accuracy and AUROC of each repeat on the exact
predictions for the test patients, which no hospital reports; noise differs from repeat to repeat.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from flwr.app import Context, Message, RecordDict
from sklearn.metrics import roc_auc_score

from client.app import app
from client.evaluation.predictions import build_predictor, compute_predictions
from client.policy import load_policy
from client.requests.loaded_model import load_model
from client.site_context import read_site_context
from common import messages
from common.config import RunConfig, load_config
from common.requests import FinalTestRequest
from experiments.engines.local import LocalGrid
from server.app import run_federation

Predicted = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


class HospitalGrid(LocalGrid):
    """A grid whose nodes are hospitals, each with its data folder; it remembers exact predictions of tested models."""

    def __init__(self, folders: list[Path], state: Path, policy: Path | None) -> None:
        super().__init__(app, len(folders), 1)
        self.predicted: dict[str, Predicted] = {}
        self._app = self._answer
        for node, folder in enumerate(folders, 1):
            settings = {"site": folder.name, "data": str(folder), "state": str(state / folder.name)}
            if policy is not None:
                settings["policy"] = str(policy)
            (state / folder.name).mkdir()
            self._contexts[node] = Context(
                run_id=1, node_id=node, node_config=dict(settings), state=RecordDict(), run_config={}
            )

    def _answer(self, message: Message, context: Context) -> Message:
        if message.metadata.message_type.endswith(".test"):
            request = messages.unpack_request("test", message.content)
            assert isinstance(request, FinalTestRequest)
            loaded = load_model(read_site_context(context.node_config), request)
            predictor = build_predictor(loaded.model, request.config, request.latent)
            logits = np.asarray(compute_predictions(predictor, loaded.site.test), dtype=np.float64)
            self.predicted[loaded.site.name] = logits[:, 1] - logits[:, 0], loaded.site.test.y
        return app(message, context)


def measure_run(config: RunConfig, folders: list[Path], policy: Path | None) -> tuple[int, float, float]:
    """Return how many hospitals were tested, and pooled accuracy and AUROC of a task of two classes."""
    with tempfile.TemporaryDirectory() as scratch:
        grid = HospitalGrid(folders, Path(scratch), policy)
        try:
            run_federation(grid, config, Path(scratch) / "run")
        finally:
            grid.close()
    odds = np.concatenate([each for each, _ in grid.predicted.values()])
    truth = np.concatenate([each for _, each in grid.predicted.values()])
    return len(grid.predicted), float(((odds > 0) == truth).mean()), float(roc_auc_score(truth, odds))


def main() -> None:
    """Print each repeat, and mean and standard deviation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--folders", type=Path, required=True)
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    wanted = parser.parse_args()
    load_policy(wanted.policy)  # refused here if it has a mistake
    config = load_config(wanted.config, ["data.path=null"])
    folders = sorted(item for item in wanted.folders.iterdir() if item.is_dir())
    results = []
    for _ in range(wanted.repeats):
        hospitals, accuracy, auroc = measure_run(config, folders, wanted.policy)
        results.append((accuracy, auroc))
        print(f"{hospitals} hospitals: accuracy {accuracy:.4f}, AUROC {auroc:.4f}", flush=True)
    mean, spread = np.mean(results, 0), np.std(results, 0, ddof=1 if wanted.repeats > 1 else 0)
    print(f"accuracy {mean[0]:.4f} ± {spread[0]:.4f}, AUROC {mean[1]:.4f} ± {spread[1]:.4f}")


if __name__ == "__main__":
    main()
