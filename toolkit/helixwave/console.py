"""Where the command line writes."""

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
