"""``pellucid models``: what loads by name."""

from pellucid.cli import options, output


def models(as_json: options.AsJson = False) -> None:
    """List the models that load by name. Any transformers folder, hub id or GGUF file loads too.

    Example: pellucid explain --model minilm-sst2 --text "A quiet, warm film." --method occlusion
    """
    from rich.table import Table
    from rich.text import Text

    from pellucid.models.cards import model_cards

    cards = model_cards()
    if as_json:
        output.document([card._asdict() for card in cards])
        return
    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("name", "task", "what it is", "licence"):
        drawn.add_column(heading, overflow="fold", no_wrap=heading == "name")
    for card in cards:
        drawn.add_row(*(Text(cell) for cell in (card.name, card.task, card.summary, card.license)))
    output.drawn(drawn)
    for card in cards:
        if card.install:
            output.line(f"{card.name} is not installed yet: {card.install}")
