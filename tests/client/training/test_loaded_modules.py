"""What a process loads to train: not torch's compiler, which takes a second and which nothing uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TRAIN = """
import sys
import torch
from client.training.loop import make_optimizer
from common.sections.training import TrainingConfig
model = torch.nn.Linear(2, 1)
for name in ("adamw", "sgd"):
    optimizer = make_optimizer(model, TrainingConfig(optimizer=name))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
print("torch._dynamo.eval_frame" in sys.modules)
"""


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True
    )
    return result.stdout.strip()


def test_training_loads_no_compiler() -> None:
    assert run(TRAIN) == "False"
