"""Trees as the text that LightGBM loads, as its `Tree::ToString` writes it.

Its counts are not of patients: they are shares of the merged distributions (common/flat_trees.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.flat_trees import FlatTree
from common.task import Task

LARGEST = float(np.finfo(np.float32).max)


def to_lightgbm(trees: list[FlatTree], task: Task) -> str:
    """Return trees as the text that `lightgbm.Booster` reads."""
    outputs, names = (1 if task.binary else len(task.classes)), [plain_name(name) for name in task.features]
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
            "leaf_count": [tree.units[k] for k in ends],
            "internal_value": [0] * len(splits),
            "internal_weight": [0] * len(splits),
            "internal_count": [tree.units[k] for k in splits],
        }
    lines = [f"{key}={' '.join(map(str, values))}" for key, values in rows.items()]
    return [f"Tree={number}", f"num_leaves={len(ends)}", "num_cat=0", *lines, "is_linear=0", "shrinkage=1", ""]


def plain_name(name: str) -> str:
    """Return a name without the characters that a file of these libraries does not take."""
    return "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in name)
