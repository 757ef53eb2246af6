"""What the paper of DLBacktrace printed in its tables, to be read beside ours: other data, other networks.

Numbers of its three tables, which have no intervals; a method that a table does not have is absent. Nothing here was
measured by us.
"""

from typing import NamedTuple

SOURCE = "DLBacktrace [sankarapu2024]"


class Published(NamedTuple):
    """One table of the paper."""

    setting: str
    """Its data and its network."""
    values: dict[str, dict[str, float]]
    """Method, in our names, to column to number."""


TABLES = {
    "tabular": Published(
        "Lending Club, a perceptron",
        {
            "backtrace": {"mprt": 0.562, "complexity": 2.201},
            "kernel_shap": {"mprt": 0.684, "complexity": 1.234},
            "lime": {"mprt": 0.933},
        },
    ),
    "images": Published(
        "CIFAR-10, ResNet-34",
        {
            "backtrace": {"faithfulness_correlation": 0.199, "max_sensitivity": 0.617, "morf": 0.199},
            "integrated_gradients": {"faithfulness_correlation": 0.009},
            "smoothgrad": {"faithfulness_correlation": 0.018},
            "grad_cam": {"faithfulness_correlation": 0.010},
        },
    ),
    "text": Published(
        "SST-2, BERT",
        {
            "integrated_gradients": {"delta": 53.48},
            "smoothgrad": {"delta": 23.70},
            "rollout": {"delta": 21.81},
            "backtrace": {"delta": 15.26},
            "grad_cam": {"delta": 1.76},
            "random": {"delta": 0.62},
            "input_x_gradient": {"delta": -8.44},
        },
    ),
}
