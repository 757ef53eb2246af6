import os
import signal

# Before anything imports transformers or a thread pool: no test may reach for a model hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch

# A shell starts background jobs deaf to Ctrl-C, and so would be every process that a test sends one to.
signal.signal(signal.SIGINT, signal.default_int_handler)

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def smollm2():
    """The embedded language model, loaded once. Tests must leave it as they found it."""
    import pellucid

    return pellucid.load("smollm2")
