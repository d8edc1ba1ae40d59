"""Options that the commands of genomics share: each group of them makes one argument of a command."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer
from helixwave.errors import InputError

if TYPE_CHECKING:
    from helixwave_domains.genomics.table_run import Run
    from helixwave_domains.genomics.windows import OnMismatch

Strand = StrEnum("Strand", {"ahead": "+", "behind": "-", "both": "both"})
Mismatch = StrEnum("Mismatch", ["error", "skip", "swap", "keep"])
Dtype = StrEnum("Dtype", ["float32", "bfloat16"])


class Alleles(NamedTuple):
    """Which windows of alleles are cut: arguments of `AlleleRows`."""

    reference: Path
    window: int | None
    center: int | None
    on_mismatch: "OnMismatch"


def alleles(
    reference: Annotated[Path, typer.Option(help="FASTA of the genome.")],
    window: Annotated[
        int | None, typer.Option(help="Letters around each allele. Default: 1024, or the checkpoint's context if less.")
    ] = None,
    center: Annotated[
        int | None, typer.Option(help="Index in the window at which the alleles begin to differ. Default: its middle.")
    ] = None,
    ref_mismatch: Annotated[
        Mismatch, typer.Option(help="What to do where REF is not what the genome says.")
    ] = Mismatch.skip,
) -> Alleles:
    """Which windows of alleles are cut."""
    return Alleles(reference, window, center, cast("OnMismatch", str(ref_mismatch)))


def embedding(
    pool: Annotated[
        list[str], typer.Option(help="none, mean, max, first or last; several with commas, or the option repeated.")
    ] = ["mean"],  # noqa: B006
    layer: Annotated[
        int | None,
        typer.Option(help="States behind so many layers, from the end if negative. Default: the last, normed."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Positions that pieces of a long sequence share. Default: a quarter of a piece.")
    ] = None,
) -> dict[str, Any]:
    """Arguments of `Embedder`."""
    return {"pool": _separate(pool), "layer": layer, "overlap": overlap}


def scoring(
    score: Annotated[
        list[str] | None,
        typer.Option(help="likelihood, masked or distance, several with commas. Default: the first that can be had."),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="For distance: states behind so many layers. Default: the last, normed.")
    ] = None,
) -> dict[str, Any]:
    """Arguments of `Scorer`."""
    return {"scores": _separate(score) if score else None, "layer": layer}


def reading(
    strand: Annotated[Strand, typer.Option(help="The strand that is read; both: the mean of the two.")] = Strand.ahead,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Positions of a batch. Default: 8192, on a GPU 131072.")
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Precision of the computation.")] = Dtype.float32,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.")] = "auto",
) -> dict[str, Any]:
    """Arguments of `Reading`."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return {"strand": str(strand), "batch_tokens": batch_tokens, "dtype": getattr(torch, dtype), "device": device}


def run(
    checkpoint: Annotated[
        str, typer.Option(help="Folder of a run, of a checkpoint or of published weights, or a name on the hub.")
    ],
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the work on a CPU.")] = 1,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Do the I-th of N parts; all write the same output, in any order.")
    ] = "1/1",
    block_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows written together: what a kill costs. Default: by their length.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an output that was begun.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")] = False,
) -> "Callable[..., Run]":
    """Makes a `Run` of a folder."""
    from helixwave_domains.genomics.table_run import Run, Shard

    if resume and overwrite:
        raise InputError("--resume goes on with what is there and --overwrite replaces it. Choose one of them")
    part = Shard.parse(shard)
    return partial(
        Run,
        checkpoint=checkpoint,
        shard=part,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        rows_per_block=block_rows,
    )


def _separate(values: list[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]
