"""Time and memory of a private step compared with a plain one, for each method of computing gradients of single units.

A step includes drawing units, both passes, clipping, secure noise, and the optimiser. Each method runs in a process
of its own with one thread, in which plain and private training alternate, so that each ratio is of neighbouring
times. Time is processor time, which does not depend on other processes. The methods of Opacus (Yousefpour et al.
2021, arXiv:2109.12298) use its hooks in place of Wardround's gradients; everything else is the same. Inputs of
convolutions are made contiguous for them: for channels-last inputs Opacus 1.6.0 computes wrong gradients of single
examples without a warning, because its unfold2d assumes the strides of the contiguous layout.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.privacy.budget import DpSgdPlan
from client.privacy.dp_sgd import train_privately
from client.privacy.unit_gradients import GradientMethod, UnitClipper, UnitGradients, UnitRows
from client.privacy.units import count_units
from client.training import loop
from client.training.batches import RowLoader
from client.training.losses import Loss
from common import models
from experiments.bench.engines import bench_config, make_bench_data
from experiments.markdown_table import render_markdown_table
from sites.cohort import Cohort

Level = Literal["record", "patient"]
WAYS = ("ghost", "vmap", "loop", "opacus-hooks", "opacus-ghost")
WAY_TITLES = {
    "ghost": "ghost norms, book-keeping (Wardround's)",
    "vmap": "torch.func: vmap of grad",
    "loop": "one backward pass for each unit",
    "opacus-hooks": "Opacus GradSampleModule",
    "opacus-ghost": "Opacus ghost clipping",
}


class OpacusHooks:
    """Computes gradients of single examples with Opacus's hooks, sums them for each unit, clips these and adds them."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.size = sum(p.numel() for p in self.trained.values())
        self._model, self._loss = model, loss
        self._hooks: Any = None
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))

    def clipped_sum(self, units: UnitRows, rows: RowLoader, limit: float) -> npt.NDArray[np.float64]:
        """Return the sum `(parameters,)` of the units' gradients, each clipped to the norm `limit`."""
        if not units:
            return np.zeros(self.size)
        count = torch.tensor([len(unit) for unit in units])
        owner = torch.repeat_interleave(torch.arange(len(units)), count)
        x, features, y = rows(torch.from_numpy(np.concatenate(units)))
        loss = self._loss(self._hooked()(x, features), x, features, y)
        (loss / count[owner]).sum().backward()  # type: ignore[no-untyped-call]
        each: list[Tensor] = [getattr(p, "grad_sample").flatten(1) for p in self.trained.values()]  # noqa: B009
        if int(count.max()) > 1:
            each = [raw.new_zeros(len(units), raw.shape[1]).index_add_(0, owner, raw) for raw in each]
        norm = torch.stack([raw.norm(dim=1) for raw in each]).norm(dim=0)
        share = (limit / norm).clamp(max=1.0)
        total: npt.NDArray[np.float64] = torch.cat([share @ raw for raw in each]).double().numpy()
        self._hooked().zero_grad()
        return total

    def _hooked(self) -> Any:
        if self._hooks is None:
            from opacus.grad_sample import GradSampleModule

            self._hooks = GradSampleModule(self._model, loss_reduction="sum")
        return self._hooks


class OpacusGhost(OpacusHooks):
    """Uses Opacus's ghost norms and a second, weighted backward pass; for units of one example only."""

    def clipped_sum(self, units: UnitRows, rows: RowLoader, limit: float) -> npt.NDArray[np.float64]:
        """Return the sum `(parameters,)` of the units' gradients, each clipped to the norm `limit`."""
        from opacus.grad_sample import GradSampleModuleFastGradientClipping as Fast

        if not units:
            return np.zeros(self.size)
        if self._hooks is None:
            self._hooks = Fast(self._model, loss_reduction="sum", max_grad_norm=limit, use_ghost_clipping=True)
        x, features, y = rows(torch.from_numpy(np.concatenate(units)))
        loss = self._loss(self._hooks(x, features), x, features, y)
        loss.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        share = (limit / self._hooks.get_norm_sample()).clamp(max=1.0)
        self._hooks.disable_hooks()
        self._hooks.zero_grad()
        (share * loss).sum().backward()
        self._hooks.enable_hooks()
        parts: list[Tensor] = [p.grad.flatten() for p in self.trained.values() if p.grad is not None]
        total: npt.NDArray[np.float64] = torch.cat(parts).double().numpy()
        self._hooks.zero_grad()
        return total


def make_gradients(way: str) -> Callable[[nn.Module, Loss], UnitClipper]:
    """Return a function that builds the computation of clipped sums, for one of WAYS, from a model and a loss."""
    if way.startswith("opacus"):
        return OpacusGhost if way == "opacus-ghost" else OpacusHooks
    own: GradientMethod = next(item for item in get_args(GradientMethod) if item == way)
    return partial(UnitGradients, method=own)


def measure_private_steps(batch: int, each: int, turns: int) -> dict[str, Any]:
    """Return the time ratio of private to plain steps, and peak memory, for both levels and each method.

    Args:
        batch: mean number of examples in a step.
        each: examples of one person at level patient.
        turns: pairs of plain and private training.
    """
    results: list[dict[str, Any]] = []
    for level in ("record", "patient"):
        for way in WAYS:
            if level == "patient" and way == "opacus-ghost":
                continue  # it only clips single examples
            command = [
                sys.executable,
                "-m",
                "experiments.bench.private_step",
                level,
                way,
                *map(str, (batch, each, turns)),
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                results.append({"level": level, "way": way, "error": (done.stderr.strip().splitlines() or ["?"])[-1]})
            else:
                results.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return {"batch": batch, "examples a person": each, "turns": turns, "torch": torch.__version__, "steps": results}


def render_steps_table(measured: dict[str, Any]) -> str:
    """Return the measurements as a Markdown table."""
    header = ["level", "gradients of units", "ratio to plain (quartiles)", "ms a step", "plain", "peak memory", "plain"]
    rows = []
    for item in measured["steps"]:
        name = [item["level"], WAY_TITLES[item["way"]]]
        if "error" in item:
            rows.append([*name, item["error"]])
            continue
        low, median, high = item["ratio"]
        times = [f"{item['private_ms']:.1f}", f"{item['plain_ms']:.1f}"]
        memory = [f"{item['private_mb']:.0f} MB", f"{item['plain_mb']:.0f} MB"]
        rows.append([*name, f"{median:.2f} ({low:.2f} to {high:.2f})", *times, *memory])
    return render_markdown_table(header, rows)


def measure_way(level: Level, way: str, batch: int, each: int, turns: int) -> dict[str, Any]:
    """Return the measurements of one method, taken in this process."""
    torch.set_num_threads(1)
    train, config = _make_people(each if level == "patient" else 1), bench_config(1, 2000, 1, 1, make_bench_data(10))
    wanted = config.training.model_copy(update={"batch_size": batch, "device": "cpu"})
    units = count_units(train, level)
    steps = -(-len(train.y) // batch)
    drawn = batch / each if level == "patient" else batch
    plan = DpSgdPlan(level, min(1.0, drawn / units), 1.0, 1.0, steps, each)
    counts = train.class_counts()

    def time_step(run: Callable[[nn.Module], Any]) -> float:
        model = models.build_model(train.task, config.model, 1)
        start = time.process_time()
        run(model)
        return (time.process_time() - start) / steps

    def plain(model: nn.Module) -> None:
        loop.train_model(model, train, wanted, 1, counts=counts)

    def private(model: nn.Module) -> None:
        train_privately(model, train, wanted, plan, 1, gradients=make_gradients(way))

    memory = []
    for run in (plain, private):
        _reset_peak_memory()
        time_step(run)
        memory.append(_peak_memory())
    pairs = [(time_step(plain), time_step(private)) for _ in range(turns)]
    ratios = [b / a for a, b in pairs]
    quartiles = statistics.quantiles(ratios, n=4) if turns > 1 else ratios * 3
    return {
        "level": level,
        "way": way,
        "units": round(drawn, 1),
        "ratio": [round(value, 3) for value in quartiles],
        "plain_ms": round(1e3 * statistics.median(a for a, _ in pairs), 3),
        "private_ms": round(1e3 * statistics.median(b for _, b in pairs), 3),
        "plain_mb": memory[0],
        "private_mb": memory[1],
    }


def _make_people(each: int) -> Cohort:
    """Return a SYNTHETIC hospital's beats, assigned to artificial people with `each` beats; only shapes matter here."""
    from client.policy import SIMULATION_POLICY
    from client.site import load_site
    from client.site_context import SiteContext

    config = bench_config(10, 2000, 1, 1, make_bench_data(10))
    train = load_site(SiteContext(SIMULATION_POLICY, index=0, count=10), config).train
    owner = np.arange(len(train.y)) // each
    names = tuple(f"p{number}" for number in range(int(owner[-1]) + 1))
    return replace(train, patient=owner, patients=names, persons=names, age=None, sex=None)


def _reset_peak_memory() -> None:
    with suppress(OSError):  # without /proc the peak is that since the start of the process
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(measure_way(sys.argv[1], sys.argv[2], *(int(value) for value in sys.argv[3:6]))))  # type: ignore[arg-type]
