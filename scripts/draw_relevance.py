"""Draw the pictures of docs/relevance.md with the models that come with pellucid. Under a minute on one core.

Needs the extras ``plots`` and ``image``, and the packages that ``pellucid models`` names for the two models.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent.parent / "docs" / "images"
REVIEW = "A quiet, warm film that never quite finds its ending."
DOTS = 80
"""Dots per inch."""


def drawn(figures: Sequence["Figure"], across: int = 1) -> Image.Image:
    """Figures in rows of so many, each in a cell of the largest one's size."""
    pictures = []
    for figure in figures:
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=DOTS)
        pictures.append(Image.open(buffer).convert("RGB"))
    width, height = max(each.width for each in pictures), max(each.height for each in pictures)
    sheet = Image.new("RGB", (width * across, height * -(-len(pictures) // across)), "white")
    for place, each in enumerate(pictures):
        sheet.paste(each, (width * (place % across), height * (place // across)))
    return sheet


def draw() -> None:
    """Write the three pictures."""
    from skimage.data import chelsea

    import pellucid
    from pellucid.report import plots

    classifier = pellucid.load("minilm-sst2")
    review = pellucid.explain(classifier, REVIEW, method="attnlrp", account=True, features="token+template")
    drawn([plots.layers(review)]).save(FOLDER / "relevance-layers.png", optimize=True)
    drawn([plots.account(review)]).save(FOLDER / "relevance-account.png", optimize=True)
    network = pellucid.load("efficientnet-lite0")
    signed, favouring = (
        pellucid.explain(network, chelsea(), method=name, features="patch:16") for name in ("attnlrp", "lrp-gamma")
    )
    views = [plots.overlay(signed), *(plots.overlay(favouring, view=view) for view in plots.VIEWS)]
    drawn(views, across=2).save(FOLDER / "relevance-picture.png", optimize=True)


if __name__ == "__main__":
    draw()
