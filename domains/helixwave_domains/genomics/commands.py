"""`helixwave embed fasta|bed|vcf` and `helixwave score vcf`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from helixwave.errors import InputError
from helixwave.option_groups import grouped

from helixwave_domains.genomics import options
from helixwave_domains.genomics.options import Alleles

if TYPE_CHECKING:
    from helixwave_domains.genomics.filling import Task
    from helixwave_domains.genomics.rows import AlleleRows, Rows
    from helixwave_domains.genomics.store import Table
    from helixwave_domains.genomics.strands import BothStrands
    from helixwave_domains.genomics.table_run import Run

embed = typer.Typer(help="Embed sequences, intervals or variants with a checkpoint.", no_args_is_help=True)
score = typer.Typer(help="Score variants with a checkpoint.", no_args_is_help=True)

# letters around a variant, where a checkpoint was not made for less
_WINDOW = 1024
_SUFFIXES = {".gz", ".bgz", ".fa", ".fasta", ".fna", ".bed", ".vcf", ".bcf"}

Vcf = Annotated[Path, typer.Argument(metavar="VCF", help="VCF (plain, gzip or BGZF) or BCF.")]
Zarr = Annotated[Path | None, typer.Option("--output", "-o", help="Default: the input's name, with .zarr.")]


@score.callback()
def _score() -> None:
    # with a callback, `vcf` is a command of its own and not all there is
    pass


@embed.command("fasta")
@grouped(embedding=options.embedding, reading=options.reading, run=options.run)
def embed_fasta(
    fasta: Annotated[Path, typer.Argument(metavar="FASTA", help="Plain, gzip or BGZF.")],
    output: Zarr = None,
    window: Annotated[
        int | None, typer.Option(help="Longest piece read at once. Default: the checkpoint's context, or 65536.")
    ] = None,
    *,
    embedding: dict[str, Any],
    reading: dict[str, Any],
    run: Callable[..., Any],
) -> None:
    """Embed the records of a FASTA.

    Example: helixwave embed fasta my.fa --checkpoint LongSafari/hyenadna-small-32k-seqlen-hf --pool mean
    """
    from helixwave_domains.genomics.rows import FastaRows

    _embed(lambda model: FastaRows(fasta), run(folder=_zarr(output, fasta)), reading, {**embedding, "window": window})


@embed.command("bed")
@grouped(embedding=options.embedding, reading=options.reading, run=options.run)
def embed_bed(
    bed: Annotated[Path, typer.Argument(metavar="BED", help="Plain or gzip.")],
    reference: Annotated[Path, typer.Option(help="FASTA of the genome.")],
    output: Zarr = None,
    window: Annotated[
        int | None, typer.Option(help="Letters around the middle of each interval. Default: the interval itself.")
    ] = None,
    *,
    embedding: dict[str, Any],
    reading: dict[str, Any],
    run: Callable[..., Any],
) -> None:
    """Embed intervals of a genome, or windows around their middles, each on its strand.

    Example: helixwave embed bed peaks.bed --reference hg38.fa --checkpoint runs/my_run --window 1000
    """
    from helixwave_domains.genomics.rows import BedRows

    _embed(lambda model: BedRows(bed, reference, window), run(folder=_zarr(output, bed)), reading, embedding)


@embed.command("vcf")
@grouped(alleles=options.alleles, embedding=options.embedding, reading=options.reading, run=options.run)
def embed_vcf(
    vcf: Vcf,
    output: Zarr = None,
    *,
    alleles: Alleles,
    embedding: dict[str, Any],
    reading: dict[str, Any],
    run: Callable[..., Any],
) -> None:
    """Embed the surroundings of variants, with REF and with ALT.

    Example: helixwave embed vcf calls.vcf --reference hg38.fa --checkpoint runs/my_run --window 512 --strand both
    """
    _embed(lambda model: _allele_rows(vcf, alleles, model), run(folder=_zarr(output, vcf)), reading, embedding)


@score.command("vcf")
@grouped(alleles=options.alleles, scoring=options.scoring, reading=options.reading, run=options.run)
def score_vcf(
    vcf: Vcf,
    output: Annotated[Path, typer.Option("--output", "-o", help="NAME.vcf, NAME.vcf.gz, NAME.tsv or NAME.parquet.")],
    keep: Annotated[bool, typer.Option("--keep", help="Keep the table that the output is written from.")] = False,
    *,
    alleles: Alleles,
    scoring: dict[str, Any],
    reading: dict[str, Any],
    run: Callable[..., Any],
) -> None:
    """Score variants: every allele of the file is in the output, with a status.

    Example: helixwave score vcf calls.vcf --reference hg38.fa --checkpoint runs/my_run -o scored.vcf.gz
    """
    from helixwave_domains.genomics.score_files import expect_output, write_scores
    from helixwave_domains.genomics.score_task import ScoreTask
    from helixwave_domains.genomics.store import remove
    from helixwave_domains.genomics.table_run import missing_rows

    expect_output(output, vcf, alleles.reference)
    how = run(folder=output.with_name(f"{output.name}.partial.zarr"))
    if output.exists() and not how.overwrite:
        if not how.resume:
            raise InputError(f"{output}: is there already. Choose another output, or --overwrite")
        if not how.folder.exists():
            print(f"{output}: is complete")
            return
    model = _model(how, reading)
    table = _filled(ScoreTask(_allele_rows(vcf, alleles, model), reading, scoring), model, how)
    if how.shard.count > 1:
        if missing_rows(table) == 0:
            print(f"all rows are there. To write {output}: the same command with --resume and without --shard")
        return
    write_scores(table, output, vcf)
    if not keep:
        remove(table.folder)
    print(output)


def _embed(
    rows: "Callable[[BothStrands], Rows]", run: "Run", reading: dict[str, Any], embedding: dict[str, Any]
) -> None:
    from helixwave_domains.genomics.embed_task import EmbedTask

    model = _model(run, reading)
    _filled(EmbedTask(rows(model), reading, embedding), model, run)
    print(run.folder)


def _model(run: "Run", reading: dict[str, Any]) -> "BothStrands":
    from helixwave_domains.genomics.checkpoints import load_checkpoint

    if run.workers > 1 and reading["device"] != "cpu":
        raise InputError(f"--workers {run.workers} are for a CPU, the device is {reading['device']}. Add --device cpu")
    return load_checkpoint(run.checkpoint)


def _allele_rows(vcf: Path, alleles: Alleles, model: "BothStrands") -> "AlleleRows":
    from helixwave_domains.genomics.rows import AlleleRows

    context = getattr(model, "context", None) or _WINDOW
    window = min(_WINDOW, context) if alleles.window is None else alleles.window
    return AlleleRows(vcf, alleles.reference, window, alleles.center, alleles.on_mismatch)


def _filled(task: "Task", model: "BothStrands", run: "Run") -> "Table":
    """The table with all that this run has to do, and on the screen what became of it."""
    from helixwave.console import console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from helixwave_domains.genomics.table_run import counts, missing_rows

    with console.status(f"reading {', '.join(path.name for path in task.inputs.values())}"):
        table = run.open(task, model)
    mine = sum(len(table.rows_of(block)) for block in run.shard.blocks(table.n_block))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("rows", total=mine)
        run.fill(task, table, model, lambda done: progress.advance(bar, done))
    missing = missing_rows(table)
    if missing:
        print(f"shard {run.shard}: {mine} rows are done, {missing} of {table.rows} are missing")
    else:
        _show(counts(table))
    return table


def _show(counts: dict[str, Any]) -> None:
    """Rows by status."""
    from helixwave.console import console
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False)
    grid.add_column("status")
    grid.add_column("rows", justify="right")
    for status, number in counts["status"].items():
        grid.add_row(status, f"{number:,}")
    console.print(grid)
    if counts["unknown_letters"]:
        console.print(f"letters that are ambiguity codes and were read as unknown: {counts['unknown_letters']:,}")


def _zarr(output: Path | None, source: Path) -> Path:
    """By default the name of an input without its endings, in this folder."""
    if output is not None:
        return output
    name = Path(source.name)
    while name.suffix.lower() in _SUFFIXES:
        name = name.with_suffix("")
    return Path(f"{name}.zarr")
