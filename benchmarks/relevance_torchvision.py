"""Importing this lets torchvision be imported beside a torch for which its compiled operators were not built.

zennit and LXT import it, though neither calls those operators here. Where the operators are there, nothing is done.
"""

from importlib import import_module

import torch

try:
    import_module("torchvision")
except RuntimeError:
    LIBRARY = torch.library.Library("torchvision", "DEF")
    LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
