"""What tells one autoencoder from another."""

import hashlib

import torch

from pellucid.sae.autoencoder import SAE


def digest(sae: SAE) -> str:
    """SHA-256 over what decides an autoencoder's numbers: how it decides what is active, and its weights."""
    config = sae.config
    deciding = (config.architecture, config.k, config.subtract_decoder_bias, config.normalisation)
    found = hashlib.sha256(repr(deciding).encode())
    for name, tensor in sorted(sae.state_dict().items()):
        found.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        found.update(memoryview(flat.view(torch.uint8).numpy()))
    return found.hexdigest()
