"""The command line: sub-commands found by entry point, one clear line for what the user can put right."""

import os
import sys
from typing import Annotated

import typer

from helixwave.errors import InputError
from helixwave.registry import COMMANDS


def main() -> None:
    """Entry point of `helixwave`."""
    # threads that spin while they wait cost ten times the cpu time where cores are shared; torch reads this at import
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        build_app()(standalone_mode=True)
    except (InputError, OSError) as error:
        if os.environ.get("HELIXWAVE_DEBUG"):
            raise
        print(f"helixwave: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


def build_app() -> typer.Typer:
    """All registered commands in one application."""
    app = typer.Typer(
        name="helixwave",
        help="Long-sequence models for DNA, ECG, time series and video.\n\nStart: helixwave train genomics/annotate",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_options)
    for name in COMMANDS:
        command = COMMANDS[name]
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        from helixwave import __version__

        print(f"helixwave {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass
