"""Files of boosted trees that other libraries load: XGBoost's JSON and LightGBM's text.

A split of the run's model compares ranks. In these files it compares the inputs in their own units: the threshold is
the smallest number of single precision whose rank is not left of the split, so each input goes to the same side. Both
libraries take a missing input as NaN. Formats: XGBoost's schema (doc/model.schema of its source) and LightGBM's
`Tree::ToString`. Counts and sums of Hessians in them are not of patients but shares (common/flat_trees.py), by which
SHAP's TreeExplainer weighs the nodes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.arrays import Weights
from common.errors import ConfigError
from common.files import write_text
from common.flat_trees import FlatTree, flatten_trees
from common.lightgbm_text import plain_name, to_lightgbm
from common.scaling import Scaling, rank_bins
from common.task import Task
from common.trees import TREE_ARRAYS
from experiments import restore

TreeFormat = Literal["xgboost", "lightgbm"]


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
    trees = flatten_in_units(weights, scaling)
    text = to_xgboost(trees, task) if library == "xgboost" else to_lightgbm(trees, task)
    write_text(target, text)
    return len(trees)


def flatten_in_units(weights: Weights, scaling: Scaling) -> list[FlatTree]:
    """Return trees with thresholds in the inputs' units, one for each output in turn; the first ones hold the base."""
    if not scaling.keeps_missing:  # a missing input is the mean, 0
        weights = {**weights, "missing_left": (weights["threshold"] > 0).astype(np.uint8)}
    return flatten_trees(weights, find_limits(weights, scaling), scaling)


def find_limits(weights: Weights, scaling: Scaling) -> npt.NDArray[np.float32]:
    """Return for each split, `(trees, positions)`, the smallest number of single precision that does not go left.

    It is the largest finite number where every input goes left.
    """
    column = np.maximum(weights["feature"].astype(np.int64), 0)
    low = np.full(column.shape, -(2**31) + 2**23, np.int64)  # the keys of the finite numbers of single precision
    high = np.full(column.shape, 2**31 - 2**23 - 1, np.int64)
    centre, spread = scaling.centre[column], scaling.spread[column]
    while (low < high).any():
        middle = (low + high) // 2
        value = _from_key(middle)
        if len(scaling.ranks):
            scaled = scaling.ranks[column, rank_bins(value, centre, spread)]
        else:
            scaled = ((value - centre) / spread).astype(np.float32)
        reached = scaled >= weights["threshold"]
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    return _from_key(low)


def _from_key(key: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the numbers of single precision in their order: key 0 is 0, larger keys are larger numbers."""
    bits = np.where(key >= 0, key, -key).astype(np.uint32)
    value = bits.view(np.float32)
    return np.where(key >= 0, value, -value).astype(np.float32)


def to_xgboost(trees: list[FlatTree], task: Task) -> str:
    """Return trees as the JSON that `xgboost.Booster.load_model` reads."""
    outputs, width = (1 if task.binary else len(task.classes)), len(task.features)
    objective: dict[str, Any] = {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}}
    if outputs > 1:
        objective = {"name": "multi:softprob", "softmax_multiclass_param": {"num_class": str(outputs)}}
    content = {
        "learner": {
            "attributes": {},
            "feature_names": [plain_name(name) for name in task.features],
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
        "sum_hessian": [float(units) for units in tree.units],
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(width),
            "num_nodes": str(nodes),
            "size_leaf_vector": "1",
        },
    }
