"""One batch of samples through the network as far as the last site, and of it the rows that are kept."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError, NumericalError
from pellucid.models import VisionLanguage
from pellucid.models.tokens import Row
from pellucid.sae.site import Site, capture
from pellucid.sae.store.encoding import Readable
from pellucid.sae.store.manifest import Dtype
from pellucid.sae.store.tables import Chosen
from pellucid.sae.store.values import Rows


def kept_rows(model: Readable, sites: Sequence[Site], batch: Sequence[Chosen], dtype: Dtype) -> dict[Site, Rows]:
    """What passes at each site at the positions that are kept, sample after sample, as it is stored.

    Raises:
        InputError: at a site there is not one vector for each position, or float16 cannot hold a number.
        NumericalError: an activation is NaN or infinite; it names site, sample and position.
    """
    call = _call(model, batch)
    with torch.inference_mode(), model.evaluating():
        passing = capture(model.module, sites, call)
        longest = max(len(each.sample.ids) for each in batch)
        places = np.concatenate([number * longest + each.positions for number, each in enumerate(batch)])
        wanted = torch.from_numpy(places).to(model.device)
        found = {}
        for site in sites:
            hidden = passing[site]
            if hidden.ndim != 3 or hidden.shape[:2] != (len(batch), longest):
                raise InputError(
                    f"at {str(site)!r} passes a tensor {list(hidden.shape)} for {len(batch)} samples of {longest} "
                    "positions; a site must give [sample, position, channel]."
                )
            rows = hidden.flatten(0, 1).index_select(0, wanted)
            _check_finite(rows, site, batch)
            found[site] = Rows.of(rows, dtype)
            _check_held(found[site], site)
    return found


def _call(model: Readable, batch: Sequence[Chosen]) -> Callable[[], Any]:
    """A call of the network on a batch, padded on the right."""
    texts = model.texts if isinstance(model, VisionLanguage) else model
    ids, visible, _ = texts.batch([Row.of(each.sample.ids.tolist()) for each in batch], "right")
    given: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    if not visible.all():
        # Without a mask attention takes a faster kernel.
        given["attention_mask"] = visible.long()
    if isinstance(model, VisionLanguage) and batch[0].sample.image is not None:
        given["pixel_values"] = torch.stack([_pixels(model, each) for each in batch]).to(model.like)
    if not hasattr(model.module.config.get_text_config(), "use_cache"):
        del given["use_cache"]
    return lambda: model.module(**given)


def _pixels(model: VisionLanguage, chosen: Chosen) -> Float[Tensor, "channel height width"]:
    try:
        return model.encode({"image": chosen.sample.image, "text": chosen.sample.text}).picture.row
    except InputError as error:
        raise InputError(f"document {chosen.sample.document!r}: {error}") from None


def _check_finite(rows: Float[Tensor, "token d_in"], site: Site, batch: Sequence[Chosen]) -> None:
    finite = torch.isfinite(rows).all(1)
    if finite.all():
        return
    first = int((~finite).nonzero()[0])
    for each in batch:
        if first < len(each.positions):
            raise NumericalError(
                f"at {str(site)!r} an activation is NaN or infinite: sample {each.number} (document "
                f"{each.sample.document!r}), position {int(each.positions[first])}; load the model in float32."
            )
        first -= len(each.positions)


def _check_held(rows: Rows, site: Site) -> None:
    if rows.numbers.dtype is torch.float16 and not torch.isfinite(rows.numbers).all():
        raise InputError(f"at {str(site)!r} an activation is above 65,504, which float16 cannot hold; use bfloat16.")


__all__ = ["kept_rows"]
