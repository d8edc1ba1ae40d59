"""Options that the commands of ECGs share."""

from typing import Annotated, Any

import typer

Units = Annotated[str | None, typer.Option(help="Of files that do not say: mV, uV, V, or a factor as in 4.88uV.")]
Rate = Annotated[float | None, typer.Option(help="Samples a second, of files that do not say.")]
Leads = Annotated[str | None, typer.Option(help="Names of the channels with commas between, of files that do not say.")]


def declared(units: Units = None, rate: Rate = None, leads: Leads = None) -> Any:
    """What the user says of files."""
    from helixwave_domains.ecg.formats import Declared

    return Declared(units, rate, None if leads is None else [lead.strip() for lead in leads.split(",")])
