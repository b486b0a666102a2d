"""Trees as an ONNX graph: a TreeEnsembleRegressor that takes inputs in their own units, and probabilities behind it.

A split is `BRANCH_LT`, so an input below the threshold goes to the node of the true side; the attribute
`nodes_missing_value_tracks_true` says whether a missing input, NaN, does. The thresholds are those of the files for
XGBoost and LightGBM. Format: operator TreeEnsembleRegressor of ONNX's domain ai.onnx.ml, version 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.flat_trees import FlatTree
from common.task import Task

OPSET, ML_OPSET, IR_VERSION = 18, 3, 9


def build_tree_graph(trees: list[FlatTree], task: Task, features: str, output: str) -> Any:
    """Return the ONNX model of trees, which stand for one output after another in turn.

    Args:
        trees: at least one for each output.
        task: what is predicted.
        features: name of the input `(examples, features)`.
        output: name of the output `(examples, classes)`.
    """
    from onnx import TensorProto, helper, numpy_helper

    outputs = 1 if task.binary else len(task.classes)
    attributes: dict[str, Any] = {"n_targets": outputs, "aggregate_function": "SUM", "post_transform": "NONE"}
    attributes |= _list_attributes(trees, outputs)
    nodes = [
        helper.make_node("TreeEnsembleRegressor", [features], ["margins"], domain="ai.onnx.ml", **attributes),
    ]
    constants = []
    if task.binary:  # of two classes the first has the logit 0
        constants.append(numpy_helper.from_array(np.array([[0.0, 1.0]], np.float32), "second class"))
        nodes.append(helper.make_node("MatMul", ["margins", "second class"], ["logits"]))
    logits = "logits" if task.binary else "margins"
    if task.kind == "multilabel":
        nodes.append(helper.make_node("Sigmoid", [logits], [output]))
    else:
        nodes.append(helper.make_node("Softmax", [logits], [output], axis=-1))
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info(features, TensorProto.FLOAT, ["examples", len(task.features)])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["examples", len(task.classes)])],
        constants,
    )
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION, producer_name="wardround")


def _list_attributes(trees: list[FlatTree], outputs: int) -> dict[str, list[Any]]:
    """Return the arrays that describe the nodes, and those that describe the leaves, by attribute."""
    nodes: dict[str, list[Any]] = {
        "treeids": [], "nodeids": [], "featureids": [], "modes": [], "values": [], "truenodeids": [],
        "falsenodeids": [], "missing_value_tracks_true": [],
    }  # fmt: skip
    targets: dict[str, list[Any]] = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
    for number, tree in enumerate(trees):
        for node, column in enumerate(tree.column):
            leaf = column < 0
            row = (
                number, node, max(column, 0), "LEAF" if leaf else "BRANCH_LT", tree.threshold[node],
                max(tree.left[node], 0), max(tree.right[node], 0), int(tree.missing_left[node]),
            )  # fmt: skip
            for values, value in zip(nodes.values(), row, strict=True):
                values.append(value)
            if leaf:
                for values, value in zip(
                    targets.values(), (number, node, number % outputs, tree.value[node]), strict=True
                ):
                    values.append(value)
    return {f"nodes_{name}": values for name, values in nodes.items()} | {
        f"target_{name}": values for name, values in targets.items()
    }
