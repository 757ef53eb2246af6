"""``pellucid sae``: dictionaries of latents, from a model's activations to steering."""

import typer

from pellucid.cli.sae import dashboard, evaluate, harvest, interpret, release, steer, train

app = typer.Typer(
    help="Sparse autoencoders: harvest, train, evaluate, interpret, look at, steer, release.",
    rich_markup_mode="rich",
)
app.command("dashboard")(dashboard.dashboard)
app.command("evaluate")(evaluate.evaluate)
app.command("harvest")(harvest.harvest)
app.command("interpret")(interpret.interpret)
app.command("release")(release.release)
app.command("steer")(steer.steer)
app.command("train")(train.train)
