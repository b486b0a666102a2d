"""What a private step costs beside a plain one, by each way of getting gradients of single units, in time and memory.

A step is all of it: drawing units, both passes, clipping, noise from the secure source, the optimiser. Each way runs in
a process of its own on one thread, in which plain and private steps take turns, so that a ratio compares neighbours in
time; time is the processor's, which other processes do not spend. Ways of Opacus (Yousefpour et al. 2021,
arXiv:2109.12298) have its hooks in the place of Wardround's gradients, and all else the same. What goes into
convolutions is laid out plainly for them: of channels-last inputs Opacus 1.6.0 takes wrong gradients of single examples
without a word (its unfold2d supposes the strides of the plain layout).
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
from sites.cohort import Cohort

Level = Literal["record", "patient"]
WAYS = ("ghost", "vmap", "loop", "opacus-hooks", "opacus-ghost")
WAY_TITLES = {
    "ghost": "ghost norms, book-keeping (Wardround's)",
    "vmap": "torch.func: vmap of grad",
    "loop": "one backward pass a unit",
    "opacus-hooks": "Opacus GradSampleModule",
    "opacus-ghost": "Opacus ghost clipping",
}


class OpacusHooks:
    """Gradients of single examples by Opacus's hooks, summed to units, clipped, summed."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.size = sum(p.numel() for p in self.trained.values())
        self._model, self._loss = model, loss
        self._hooks: Any = None
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))

    def clipped_sum(self, units: UnitRows, rows: RowLoader, limit: float) -> npt.NDArray[np.float64]:
        """Return the sum over units `(parameters,)`, each clipped to a norm."""
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
        found: npt.NDArray[np.float64] = torch.cat([share @ raw for raw in each]).double().numpy()
        self._hooked().zero_grad()
        return found

    def _hooked(self) -> Any:
        if self._hooks is None:
            from opacus.grad_sample import GradSampleModule

            self._hooks = GradSampleModule(self._model, loss_reduction="sum")
        return self._hooks


class OpacusGhost(OpacusHooks):
    """Opacus's ghost norms and a second, weighted backward pass; units of one example alone."""

    def clipped_sum(self, units: UnitRows, rows: RowLoader, limit: float) -> npt.NDArray[np.float64]:
        """Return the sum over units `(parameters,)`, each clipped to a norm."""
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
        found: npt.NDArray[np.float64] = torch.cat(parts).double().numpy()
        self._hooks.zero_grad()
        return found


def make_gradients(way: str) -> Callable[[nn.Module, Loss], UnitClipper]:
    """Return what gives clipped sums of a model and a loss in one of WAYS."""
    if way.startswith("opacus"):
        return OpacusGhost if way == "opacus-ghost" else OpacusHooks
    own: GradientMethod = next(item for item in get_args(GradientMethod) if item == way)
    return partial(UnitGradients, method=own)


def measure_private_steps(batch: int, each: int, turns: int) -> dict[str, Any]:
    """Return, for both levels and each way, the time of a private step over a plain one, and peak memory.

    Args:
        batch: examples in a step, on average.
        each: at level patient, of one person.
        turns: times that plain and private training take turns.
    """
    found: list[dict[str, Any]] = []
    for level in ("record", "patient"):
        for way in WAYS:
            if level == "patient" and way == "opacus-ghost":
                continue  # it clips single examples
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
                found.append({"level": level, "way": way, "error": (done.stderr.strip().splitlines() or ["?"])[-1]})
            else:
                found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return {"batch": batch, "examples a person": each, "turns": turns, "torch": torch.__version__, "steps": found}


def render_steps_table(found: dict[str, Any]) -> str:
    """Return the measurements as a table in Markdown."""
    lines = [
        "| level | gradients of units | over plain (quartiles) | ms a step | plain | peak memory | plain |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for item in found["steps"]:
        name = f"| {item['level']} | {WAY_TITLES[item['way']]} |"
        if "error" in item:
            lines.append(f"{name} {item['error']} | | | | |")
            continue
        low, middle, high = item["ratio"]
        lines.append(
            f"{name} {middle:.2f} ({low:.2f} to {high:.2f}) | {item['private_ms']:.1f} | {item['plain_ms']:.1f} | "
            f"{item['private_mb']:.0f} MB | {item['plain_mb']:.0f} MB |"
        )
    return "\n".join(lines)


def measure_way(level: Level, way: str, batch: int, each: int, turns: int) -> dict[str, Any]:
    """Measure one way in this process."""
    torch.set_num_threads(1)
    train, config = _people(each if level == "patient" else 1), bench_config(1, 2000, 1, 1, make_bench_data(10))
    wanted = config.training.model_copy(update={"batch_size": batch, "device": "cpu"})
    units = count_units(train, level)
    steps = -(-len(train.y) // batch)
    drawn = batch / each if level == "patient" else batch
    plan = DpSgdPlan(level, min(1.0, drawn / units), 1.0, 1.0, steps, each)
    counts = train.class_counts()

    def spend(run: Callable[[nn.Module], Any]) -> float:
        model = models.build_model(train.task, config.model, 1)
        began = time.process_time()
        run(model)
        return (time.process_time() - began) / steps

    def plain(model: nn.Module) -> None:
        loop.train_model(model, train, wanted, 1, counts=counts)

    def private(model: nn.Module) -> None:
        train_privately(model, train, wanted, plan, 1, gradients=make_gradients(way))

    memory = []
    for run in (plain, private):
        _forget_peak()
        spend(run)
        memory.append(_peak())
    pairs = [(spend(plain), spend(private)) for _ in range(turns)]
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


def _people(each: int) -> Cohort:
    """Return a SYNTHETIC hospital's beats, dealt out anew to people of so many beats: it is shapes that count here."""
    from client.policy import SIMULATION_POLICY
    from client.site import load_site
    from client.site_context import SiteContext

    config = bench_config(10, 2000, 1, 1, make_bench_data(10))
    train = load_site(SiteContext(SIMULATION_POLICY, index=0, count=10), config).train
    owner = np.arange(len(train.y)) // each
    names = tuple(f"p{number}" for number in range(int(owner[-1]) + 1))
    return replace(train, patient=owner, patients=names, persons=names, age=None, sex=None)


def _forget_peak() -> None:
    with suppress(OSError):  # elsewhere the peak is that since the start
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(measure_way(sys.argv[1], sys.argv[2], *(int(value) for value in sys.argv[3:6]))))  # type: ignore[arg-type]
