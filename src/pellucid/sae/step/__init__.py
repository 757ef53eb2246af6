"""One training step without autograd: active latents are found, decoded and learned as a list of events."""
