"""Networks that cannot be traced, each refused in one sentence before anything runs."""

import torch
from torch import nn

from pellucid.errors import ModelError

_QUANTISED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "bitsandbytes",
    "auto_gptq",
    "gptqmodel",
    "awq",
    "aqlm",
    "compressed_tensors",
    "hqq",
    "optimum.quanto",
    "quanto",
    "torchao",
    "transformers.integrations.finegrained_fp8",
)


def check_traceable(module: nn.Module) -> None:
    """Raises ModelError on what hides its operations: a scripted or compiled module, a quantised layer."""
    for name, part in module.named_modules():
        where, kind = repr(name or "the network itself"), type(part)
        if isinstance(part, torch.jit.ScriptModule):
            raise ModelError(
                f"{where} is a scripted module, whose operations cannot be seen; trace the Python module that it was "
                "made of."
            )
        if kind.__name__ == "OptimizedModule":
            raise ModelError(
                f"{where} is a compiled module, whose operations cannot be seen; trace the module that was given to "
                "torch.compile (it is compiled._orig_mod)."
            )
        if part._compiled_call_impl is not None:
            raise ModelError(
                f"{where} was compiled by its method compile(), and its operations cannot be seen; trace a copy that "
                "was not."
            )
        if kind.__module__.startswith(_QUANTISED):
            raise ModelError(
                f"{where} is a quantised layer ({kind.__name__}), whose rounding has no rule; load the network in "
                "float32, bfloat16 or float16."
            )
    for name, parameter in module.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ModelError(f"parameter {name!r} is not initialised yet; call the network once before it is traced.")
        # A list of integers is a state, such as that of a generator of random numbers; weights are matrices.
        rounded = not (parameter.is_floating_point() or parameter.is_complex()) or parameter.dtype.itemsize == 1
        if parameter.ndim > 1 and (rounded or type(parameter).__module__.startswith(_QUANTISED)):
            form = parameter.dtype if rounded else type(parameter).__name__
            raise ModelError(
                f"parameter {name!r} is quantised ({form}), and its layer's rounding has no rule; load the network in "
                "float32, bfloat16 or float16."
            )
        if parameter.is_inference():
            raise ModelError(
                f"parameter {name!r} was made in inference mode, and nothing can be traced through it; load the "
                "network outside torch.inference_mode()."
            )
