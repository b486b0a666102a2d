"""Files of boosted trees that other libraries load: XGBoost's JSON and LightGBM's text.

A split of the run's model compares ranks. In these files it compares the inputs in their own units: the threshold is
the smallest number of single precision whose rank is not left of the split, so each input goes to the same side. Both
libraries take a missing input as NaN. Formats: XGBoost's schema (doc/model.schema of its source) and LightGBM's
`Tree::ToString`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.arrays import Weights
from common.errors import ConfigError
from common.files import write_text
from common.scaling import RANK_BINS, Scaling, rank_bins
from common.task import Task
from common.trees import TREE_ARRAYS
from experiments import restore

TreeFormat = Literal["xgboost", "lightgbm"]
LARGEST = float(np.finfo(np.float32).max)


@dataclass
class FlatTree:
    """A tree with one number in each leaf, its nodes numbered from the root (0), parents before children.

    Attributes:
        column: input of each split; -1: a leaf.
        threshold: an input below it goes left.
        missing_left: whether a missing input goes left.
        left: number of the left child; -1: a leaf.
        right: likewise.
        parent: number of the parent; -1: the root.
        value: of a leaf what it adds; else 0.
    """

    column: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    missing_left: list[bool] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def add(self, parent: int) -> int:
        """Add a leaf of value 0, and return its number."""
        for values, start in ((self.column, -1), (self.left, -1), (self.right, -1), (self.parent, parent)):
            values.append(start)
        self.threshold.append(0.0)
        self.value.append(0.0)
        self.missing_left.append(False)
        return len(self.column) - 1


def export_trees(run: Path, target: Path, library: TreeFormat, name: str = "federated") -> int:
    """Write a run's model of trees as a file of another library; return the number of its trees.

    Args:
        run: the run folder.
        target: the file to write.
        library: the library that shall load it.
        name: the model, as `experiments.restore.model` takes it.

    Raises:
        ConfigError: the model has no trees, or several labels.
        DataError: the folder holds no such model.
    """
    model, task = restore.model(run, name)
    scaling = restore.scaling(run, name)
    weights = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    if set(weights) != set(TREE_ARRAYS) or scaling is None:
        raise ConfigError(f"{run}: the model {name} has no trees: only models such as boosting can be exported")
    if task.kind == "multilabel":
        raise ConfigError(f"{run}: a model of several labels cannot be exported")
    trees = flatten_trees(weights, scaling)
    text = to_xgboost(trees, task) if library == "xgboost" else to_lightgbm(trees, task)
    write_text(target, text)
    return len(trees)


def flatten_trees(weights: Weights, scaling: Scaling) -> list[FlatTree]:
    """Return trees with thresholds in the inputs' units, one for each output in turn; the first ones hold the base."""
    used = np.flatnonzero((weights["value"] != 0).any((1, 2)))
    count, outputs = (int(used[-1]) + 1 if len(used) else 1), len(weights["base"])
    limits = find_limits(weights, scaling)
    result = []
    for tree in range(count):
        for output in range(outputs):
            base = float(weights["base"][output]) if tree == 0 else 0.0
            result.append(_flatten(weights, limits, tree, output, base))
    return result


def find_limits(weights: Weights, scaling: Scaling) -> npt.NDArray[np.float32]:
    """Return for each split, `(trees, positions)`, the smallest number of single precision that does not go left."""
    column = np.maximum(weights["feature"].astype(np.int64), 0)
    wanted = np.empty(column.shape, np.int64)
    for index in np.unique(column):
        at = column == index
        wanted[at] = np.searchsorted(scaling.ranks[index], weights["threshold"][at], side="left")
    low = np.full(column.shape, -(2**31) + 2**23, np.int64)  # the keys of the finite numbers of single precision
    high = np.full(column.shape, 2**31 - 2**23 - 1, np.int64)
    centre, spread = scaling.centre[column], scaling.spread[column]
    while (low < high).any():
        middle = (low + high) // 2
        reached = rank_bins(_from_key(middle), centre, spread) >= wanted
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    limit = _from_key(low)
    return np.where(wanted >= RANK_BINS, np.float32(LARGEST), np.where(wanted <= 0, np.float32(-LARGEST), limit))


def _from_key(key: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the numbers of single precision in their order: key 0 is 0, larger keys are larger numbers."""
    bits = np.where(key >= 0, key, -key).astype(np.uint32)
    value = bits.view(np.float32)
    return np.where(key >= 0, value, -value).astype(np.float32)


def _flatten(weights: Weights, limits: npt.NDArray[np.float32], tree: int, output: int, base: float) -> FlatTree:
    flat, positions = FlatTree(), weights["feature"].shape[1]

    def grow(position: int, parent: int) -> int:
        number = flat.add(parent)
        column = int(weights["feature"][tree, position]) if position < positions else -1
        if column < 0:
            leaf = position
            while leaf < positions:  # a node without a split sends every example to the left
                leaf = 2 * leaf + 1
            flat.value[number] = float(weights["value"][tree, leaf - positions, output]) + base
            return number
        flat.column[number] = column
        flat.threshold[number] = float(limits[tree, position])
        flat.missing_left[number] = bool(weights["missing_left"][tree, position])
        flat.left[number] = grow(2 * position + 1, number)
        flat.right[number] = grow(2 * position + 2, number)
        return number

    grow(0, -1)
    return flat


def to_xgboost(trees: list[FlatTree], task: Task) -> str:
    """Return trees as the JSON that `xgboost.Booster.load_model` reads."""
    outputs, width = (1 if task.binary else len(task.classes)), len(task.features)
    objective: dict[str, Any] = {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}}
    if outputs > 1:
        objective = {"name": "multi:softprob", "softmax_multiclass_param": {"num_class": str(outputs)}}
    content = {
        "learner": {
            "attributes": {},
            "feature_names": [_plain(name) for name in task.features],
            "feature_types": ["float"] * width,
            "gradient_booster": {
                "model": {
                    "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(len(trees))},
                    "iteration_indptr": list(range(0, len(trees) + 1, outputs)),
                    "tree_info": [number % outputs for number in range(len(trees))],
                    "trees": [_xgboost_tree(tree, number, width) for number, tree in enumerate(trees)],
                },
                "name": "gbtree",
            },
            "learner_model_param": {
                "base_score": "5E-1",
                "boost_from_average": "0",
                "num_class": str(outputs if outputs > 1 else 0),
                "num_feature": str(width),
                "num_target": "1",
            },
            "objective": objective,
        },
        "version": [2, 1, 0],
    }
    return json.dumps(content)


def _xgboost_tree(tree: FlatTree, number: int, width: int) -> dict[str, Any]:
    nodes, root = len(tree.column), 2**31 - 1
    leaf = [column < 0 for column in tree.column]
    return {
        "base_weights": tree.value,
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "default_left": [int(value) for value in tree.missing_left],
        "id": number,
        "left_children": tree.left,
        "loss_changes": [0.0] * nodes,
        "parents": [root if parent < 0 else parent for parent in tree.parent],
        "right_children": tree.right,
        "split_conditions": [v if end else t for v, t, end in zip(tree.value, tree.threshold, leaf, strict=True)],
        "split_indices": [max(column, 0) for column in tree.column],
        "split_type": [0] * nodes,
        "sum_hessian": [0.0] * nodes,
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(width),
            "num_nodes": str(nodes),
            "size_leaf_vector": "1",
        },
    }


def to_lightgbm(trees: list[FlatTree], task: Task) -> str:
    """Return trees as the text that `lightgbm.Booster` reads."""
    outputs, names = (1 if task.binary else len(task.classes)), [_plain(name) for name in task.features]
    head = [
        "tree",
        "version=v4",
        f"num_class={outputs}",
        f"num_tree_per_iteration={outputs}",
        "label_index=0",
        f"max_feature_idx={len(names) - 1}",
        "objective=" + ("binary sigmoid:1" if outputs == 1 else f"multiclass num_class:{outputs}"),
        f"feature_names={' '.join(names)}",
        f"feature_infos={' '.join(['[-inf:inf]'] * len(names))}",
        "",
    ]
    body = [line for number, tree in enumerate(trees) for line in _lightgbm_tree(tree, number)]
    return "\n".join([*head, *body, "end of trees", "", "pandas_categorical:null", ""])


def _lightgbm_tree(tree: FlatTree, number: int) -> list[str]:
    splits = [k for k, column in enumerate(tree.column) if column >= 0]
    ends = [k for k, column in enumerate(tree.column) if column < 0]
    index = {k: i for i, k in enumerate(splits)} | {k: ~i for i, k in enumerate(ends)}
    rows: dict[str, list[Any]] = {"leaf_value": [repr(tree.value[k]) for k in ends]}
    if splits:
        below = [np.nextafter(np.float32(tree.threshold[k]), np.float32(-np.inf)) for k in splits]
        rows = {
            "split_feature": [tree.column[k] for k in splits],
            "split_gain": [0] * len(splits),
            "threshold": [repr(float(value)) if np.isfinite(value) else repr(-LARGEST) for value in below],
            "decision_type": [8 + 2 * tree.missing_left[k] for k in splits],  # missing values are NaN
            "left_child": [index[tree.left[k]] for k in splits],
            "right_child": [index[tree.right[k]] for k in splits],
            **rows,
            "leaf_weight": [0] * len(ends),
            "leaf_count": [0] * len(ends),
            "internal_value": [0] * len(splits),
            "internal_weight": [0] * len(splits),
            "internal_count": [0] * len(splits),
        }
    lines = [f"{key}={' '.join(map(str, values))}" for key, values in rows.items()]
    return [f"Tree={number}", f"num_leaves={len(ends)}", "num_cat=0", *lines, "is_linear=0", "shrinkage=1", ""]


def _plain(name: str) -> str:
    """Return a name without the characters that a file of these libraries does not take."""
    return "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in name)
