"""The command line: it parses, calls and prints. Torch is imported inside the commands, so that ``--help`` is quick."""

from pellucid.cli.app import app, main

__all__ = ["app", "main"]
