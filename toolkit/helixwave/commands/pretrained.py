"""`helixwave pretrained list|info|fetch`: published checkpoints."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from helixwave.errors import InputError

app = typer.Typer(help="List, describe and fetch published checkpoints.", no_args_is_help=True)
_LEGEND = (
    "name, parameters, and the longest input that it was made for. Others in a family's layout can be read as well.\n"
    "Licences are not known here: each stands on the checkpoint's page, https://huggingface.co/NAME"
)


@app.command("list")
def list_checkpoints() -> None:
    """List the families that can be read, and the checkpoints that are known to be published.

    Example: helixwave pretrained list
    """
    from helixwave.console import console
    from helixwave.pretrained.families import FAMILIES, family_named

    known = {name: family_named(name).checkpoints for name in FAMILIES}
    width = max(len(checkpoint.name) for checkpoints in known.values() for checkpoint in checkpoints)
    for name, checkpoints in known.items():
        console.print(f"[bold]{name}[/]: {escape(FAMILIES.signature(name).summary)}")
        for checkpoint in checkpoints:
            context = "any" if checkpoint.context is None else f"{checkpoint.context:,}"
            console.print(f"  {checkpoint.name:{width}}  {checkpoint.parameters:13,}  {context:>9}")
    console.print(f"\n{_LEGEND}", style="dim")


@app.command()
def info(
    name: Annotated[
        str, typer.Argument(help="A folder, a file of weights, or a name on the hub that is in its cache.")
    ],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
) -> None:
    """Say what a checkpoint holds, published or our own. Nothing is downloaded.

    Example: helixwave pretrained info hyenadna
    """
    from helixwave.pretrained.hub import cached, is_hub_name

    path = Path(name).expanduser()
    if not path.exists():
        if not is_hub_name(name):
            raise InputError(f"{name}: there is no such folder or file. Expected one, or a hub name OWNER/MODEL")
        path = cached(name, revision)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for row in _facts(path):
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A name on the hub, or a folder with published weights.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[OPTION=VALUE]...", help="What the family knows, such as shift=0.0.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new folder. Default: the name's end.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
) -> None:
    """Download published weights and write them as a checkpoint of HelixWave.

    Example: helixwave pretrained fetch LongSafari/hyenadna-small-32k-seqlen-hf --output hyenadna
    """
    from helixwave.checkpoint import save
    from helixwave.pretrained import load_pretrained

    folder = output or Path(Path(name).name)
    if folder.exists():
        raise InputError(f"{folder} is there already. Choose another folder: --output FOLDER")
    model = load_pretrained(name, revision=revision, **_parsed(options or []))
    if not hasattr(model, "config"):
        raise InputError(f"{name} is no whole model, only {type(model).__name__}: a checkpoint cannot hold it")
    save(model, folder)
    print(folder)


def _parsed(options: list[str]) -> dict[str, Any]:
    import yaml

    parsed = {}
    for option in options:
        key, separator, value = option.partition("=")
        try:
            parsed[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            separator = ""
        if not separator:
            raise InputError(f"{option!r} is no option, expected OPTION=VALUE such as shift=0.0")
    return parsed


def _facts(path: Path) -> list[tuple[str, str]]:
    """Of a published checkpoint or of one of ours, name by name."""
    import hashlib

    from helixwave.checkpoint import find_checkpoint, load, load_tensors
    from helixwave.pretrained import build_published, open_published
    from helixwave.pretrained.families import is_own
    from helixwave.pretrained.files import read_config, weight_files
    from helixwave.pretrained.settings import Settings

    inner = path / "checkpoint" if (path / "checkpoint").is_dir() else path
    config, where = read_config(inner if inner.is_dir() else inner.parent)
    if is_own(Settings(config, where)):
        family, path = "helixwave", find_checkpoint(path)
        model, n_tensor = load(path), len(load_tensors(path / "model.safetensors"))
    else:
        family, published = open_published(path)
        n_tensor = len(published.tensors)
        model = build_published(family, published)
    facts = [("family", family), *_described(model), ("tensors", f"{n_tensor:,}")]
    for file in weight_files(path):
        with file.open("rb") as f:
            facts.append((f"sha256 of {file.name}", hashlib.file_digest(f, "sha256").hexdigest()))
    return facts


def _described(model: Any) -> list[tuple[str, str]]:
    config = getattr(model, "config", {}).get("model", {})
    classes, context = getattr(model, "classes", []), getattr(model, "context", None)
    if hasattr(model, "tokenizer"):
        meaning = ("vocabulary", " ".join(model.tokenizer.tokens))
    elif hasattr(model, "generate"):
        meaning = ("vocabulary", f"{len(classes)} tokens")
    else:
        meaning = ("outputs", " ".join(classes))
    return [
        ("model", config.get("name", type(model).__name__)),
        ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
        meaning,
        ("context", "any" if context is None else f"{context:,}"),
    ]
