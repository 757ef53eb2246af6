"""Language models in a GGUF file, de-quantised once."""

import hashlib
import shutil
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    __version__,
)

from pellucid.errors import ModelError
from pellucid.files import cache_folder


def read_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The network and tokenizer of a GGUF file. Raises ModelError where it is absent or broken.

    De-quantising takes many seconds, so the result is kept as safetensors in the cache.
    """
    if not path.is_file():
        raise ModelError(f"there is no GGUF file at {str(path)!r}.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # Another version of transformers may read the file otherwise, so it gets an entry of its own.
    folder = cache_folder() / "gguf" / f"{digest[:32]}-transformers-{__version__}"
    if not (folder / "model.safetensors").is_file():
        _dequantise(path, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return module, tokenizer


def _dequantise(path: Path, folder: Path) -> None:
    options: dict[str, Any] = {"gguf_file": path.name}
    try:
        # The reader of GGUF files draws a bar of its own that no setting turns off.
        with redirect_stderr(StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
            module = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"the GGUF file {str(path)!r} could not be read: {str(error).splitlines()[0]}.") from error
    # The weights are plain floats now; left in place, these two would make transformers refuse to save them.
    module.hf_quantizer = None  # type: ignore[assignment]
    del module.config.quantization_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        module.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        Path(temporary).rename(folder)
        # TemporaryDirectory removes what it made; give it something to remove.
        Path(temporary).mkdir()
