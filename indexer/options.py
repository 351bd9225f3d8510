"""What the commands share: the options of an index, their settings, and JSON on stdout."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from indexer.settings import DEVICES, Settings, from_environment


def index_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options --index and --device."""
    for option in (
        click.option("--device", type=click.Choice(DEVICES), help="Where to compute [default: auto]."),
        click.option("--index", type=click.Path(path_type=Path), help="The index's folder."),
    ):
        command = option(command)
    return command


def settings_of(**flags: Any) -> Settings:
    """The settings of the flags that were given, over those of the environment."""
    return replace(from_environment(), **{k: v for k, v in flags.items() if v is not None})


def print_json(value: Any) -> None:
    """Write a value to stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))
