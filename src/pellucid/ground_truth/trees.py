"""G4: tree ensembles read from arrays, and the two Shapley values that people mean when they explain trees.

*Interventional*: absent features take their values from background rows, v(S) = mean over b of f(x_S, b_rest).
*Path-dependent*: where an absent feature decides, both branches are followed in the proportion of the training rows
that went there [lundberg2020, algorithm 1]. The two differ wherever features depend on one another; neither is wrong.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pellucid.errors import InputError
from pellucid.ground_truth.exact import exact_shapley

LEAF = -1


class Tree(NamedTuple):
    """One binary tree, as scikit-learn lays it out: node 0 is the root, a row goes left where x <= threshold."""

    left: Int[np.ndarray, " node"]
    """Left child of each node; -1 at a leaf."""
    right: Int[np.ndarray, " node"]
    """Right child of each node; -1 at a leaf."""
    feature: Int[np.ndarray, " node"]
    """Feature that the node asks about."""
    threshold: Float[np.ndarray, " node"]
    """Value up to which a row goes left."""
    value: Float[np.ndarray, "node class"]
    """What a leaf answers."""
    cover: Float[np.ndarray, " node"]
    """Training rows that reached the node."""

    @property
    def depth(self) -> int:
        """Most questions on the way to a leaf."""
        depths = np.zeros(len(self.left), dtype=int)
        for node in range(len(self.left)):
            if self.left[node] != LEAF:
                depths[[self.left[node], self.right[node]]] = depths[node] + 1
        return int(depths.max())


class TreeEnsemble(nn.Module):
    """The mean of several trees as a network. It has no gradient: its output is constant between thresholds."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        super().__init__()
        self.trees = tuple(trees)
        leaves = [nn.Parameter(torch.from_numpy(each.value.copy()), requires_grad=False) for each in trees]
        self.values = nn.ParameterList(leaves)

    def forward(self, x: Float[Tensor, "batch player"]) -> Float[Tensor, "batch class"]:
        """The answer of each row, one column a class."""
        answers = [
            values[reached(tree, x.detach().cpu().numpy())]
            for tree, values in zip(self.trees, self.values, strict=True)
        ]
        return torch.stack(answers).mean(0)


def reached(tree: Tree, rows: Float[np.ndarray, "row player"]) -> Int[np.ndarray, " row"]:
    """The leaf that each row falls into."""
    node = np.zeros(len(rows), dtype=int)
    for _ in range(tree.depth):
        inner = tree.left[node] != LEAF
        goes_left = rows[np.arange(len(rows)), np.maximum(tree.feature[node], 0)] <= tree.threshold[node]
        node = np.where(inner, np.where(goes_left, tree.left[node], tree.right[node]), node)
    return node


def from_sklearn(estimator: Any) -> TreeEnsemble:
    """The trees of a fitted decision tree, random forest or extra trees of scikit-learn, which is not imported.

    A classifier's leaf answers with the share of each class. Raises InputError for boosted trees and for whatever
    is not fitted or no tree.
    """
    members = getattr(estimator, "estimators_", [estimator])
    if hasattr(estimator, "learning_rate") or not all(hasattr(each, "tree_") for each in members):
        raise InputError(
            f"{type(estimator).__name__} is no fitted mean of trees; give a DecisionTree, RandomForest or ExtraTrees."
        )
    return TreeEnsemble([_tree(each.tree_, hasattr(each, "classes_")) for each in members])


def _tree(arrays: Any, classifies: bool) -> Tree:
    value = np.array(arrays.value[:, 0, :], dtype=np.float64)
    if classifies:
        value /= value.sum(1, keepdims=True)
    return Tree(
        _whole(arrays.children_left),
        _whole(arrays.children_right),
        _whole(arrays.feature),
        np.array(arrays.threshold, dtype=np.float64),
        value,
        np.array(arrays.weighted_n_node_samples, dtype=np.float64),
    )


def _whole(numbers: Any) -> Int[np.ndarray, " node"]:
    # By way of a list: scikit-learn's integers are long long, which is as wide as int64 and another type by name.
    return np.array(numbers.tolist())


def interventional_shapley(
    ensemble: TreeEnsemble,
    row: Float[np.ndarray, " player"],
    background: Float[np.ndarray, "row player"],
    column: int = 0,
) -> Float[np.ndarray, " player"]:
    """Exact Shapley value of v(S) = mean over background rows b of f(x_S, b_rest), for one output column."""

    def worth(coalitions: Bool[np.ndarray, "coalition player"]) -> Float[np.ndarray, " coalition"]:
        mixed = np.where(coalitions[:, None], row, background).reshape(-1, len(row))
        answers = ensemble(torch.from_numpy(mixed))[:, column].numpy()
        return np.asarray(answers.reshape(len(coalitions), -1).mean(1))

    return exact_shapley(worth, len(row))


def path_dependent_shapley(
    ensemble: TreeEnsemble, row: Float[np.ndarray, " player"], column: int = 0
) -> Float[np.ndarray, " player"]:
    """Exact Shapley value of v(S) = mean of the leaves weighted by cover, where S says nothing [lundberg2020]."""

    def worth(coalitions: Bool[np.ndarray, "coalition player"]) -> Float[np.ndarray, " coalition"]:
        means = [_expected(tree, row, coalitions, column) for tree in ensemble.trees]
        return np.asarray(np.mean(means, axis=0))

    return exact_shapley(worth, len(row))


def _expected(
    tree: Tree, row: Float[np.ndarray, " player"], coalitions: Bool[np.ndarray, "coalition player"], column: int
) -> Float[np.ndarray, " coalition"]:
    """The tree's answer to each coalition: each leaf times the chance to reach it."""
    chance = np.zeros((len(tree.left), len(coalitions)))
    chance[0] = 1.0
    for node in range(len(tree.left)):
        if tree.left[node] == LEAF:
            continue
        present = coalitions[:, tree.feature[node]]
        goes_left = float(row[tree.feature[node]] <= tree.threshold[node])
        share = tree.cover[tree.left[node]] / tree.cover[node]
        left = np.where(present, goes_left, share)
        chance[tree.left[node]], chance[tree.right[node]] = chance[node] * left, chance[node] * (1 - left)
    leaves = tree.left == LEAF
    return np.asarray(tree.value[leaves, column] @ chance[leaves])
