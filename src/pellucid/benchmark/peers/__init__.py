"""Captum, SHAP and LIME as methods: the same question, the same budget, their own code.

``all_peers()`` is every adapter whose library is installed, by a name such as ``captum:lime``.
"""

from importlib.util import find_spec
from typing import Any

from pellucid.benchmark.peers import captum_games, captum_gradients, captum_pictures, lime_games, shap_games
from pellucid.benchmark.peers.base import AbstractPeer, require
from pellucid.benchmark.peers.lime_tabular import LimeTabular
from pellucid.benchmark.peers.shap_games import warm_up
from pellucid.benchmark.peers.shap_models import GradientExplainer, TreeExplainer
from pellucid.errors import MissingPackageError, UnknownNameError

PEERS: tuple[type[AbstractPeer], ...] = (
    captum_games.FeatureAblation,
    captum_games.ShapleyValueSampling,
    captum_games.KernelShap,
    captum_games.Lime,
    captum_gradients.Saliency,
    captum_gradients.InputXGradient,
    captum_gradients.IntegratedGradients,
    captum_gradients.GradientShap,
    captum_gradients.DeepLift,
    captum_pictures.Occlusion,
    captum_pictures.GradCam,
    captum_pictures.GuidedGradCam,
    shap_games.KernelExplainer,
    shap_games.PermutationExplainer,
    shap_games.PartitionExplainer,
    GradientExplainer,
    TreeExplainer,
    lime_games.LimeText,
    lime_games.LimeImage,
    LimeTabular,
)


def all_peers() -> dict[str, type[AbstractPeer]]:
    """Every adapter whose library is installed, by name."""
    return {peer.facts.name: peer for peer in PEERS if find_spec(peer.library) is not None}


def absent_peers() -> dict[str, str]:
    """The libraries that are not installed, each with the sentence that says how to install it."""
    found = {}
    for library in dict.fromkeys(peer.library for peer in PEERS):
        try:
            require(library)
        except MissingPackageError as error:
            found[library] = str(error)
    return found


def make_peer(name: str, /, **settings: Any) -> AbstractPeer:
    """The peer of a name with its settings.

    Raises UnknownNameError, InputError on a bad setting, MissingPackageError where its library is not installed.
    """
    known = {peer.facts.name: peer for peer in PEERS}
    if name not in known:
        raise UnknownNameError("peer", name, known)
    require(known[name].library)
    return known[name](**settings)


__all__ = ["PEERS", "AbstractPeer", "absent_peers", "all_peers", "make_peer", "warm_up"]
