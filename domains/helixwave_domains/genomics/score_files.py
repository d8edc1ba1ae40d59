"""A finished table of scores as a file: an annotated VCF, TSV or Parquet."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helixwave.errors import InputError
from helixwave.files import atomic_write, write_table

from helixwave_domains.genomics.annotate import InfoField, annotate_vcf, expect_annotatable
from helixwave_domains.genomics.scoring import SCORES
from helixwave_domains.genomics.store import MANIFEST, STATUS, Table

_DESCRIPTIONS = {
    "ll_sum": "log p(alt) - log p(ref) of the window, summed over its letters",
    "ll_mean": "log p(alt) - log p(ref) of the window, mean over its letters",
    "log_ratio": "log p(alt) - log p(ref) of the changed letters, all masked",
    "l2": "Euclidean distance of the mean embeddings of both windows",
    "cosine": "1 - cosine of the mean embeddings of both windows",
}
_STATUS_FIELD = InfoField("HW_STATUS", "String", "what became of the allele")
# columns of the table by their names in the file
_DESCRIBING = {"contig": "contig", "position": "position", "id": "name", "ref": "ref", "alt": "alt", STATUS: STATUS}


def expect_output(output: Path, vcf: Path, reference: Path) -> None:
    """Check a name before there are scores.

    Raises:
        InputError: its ending is that of no format that is written, it is an input, or the VCF cannot be annotated.
    """
    if _writer(output) is _write_vcf:
        expect_annotatable(vcf, [_STATUS_FIELD])
    for file in (vcf, reference):
        if output.exists() and file.exists() and output.samefile(file):
            raise InputError(f"{output}: this is an input. Choose another output")


def write_scores(table: Table, output: Path, vcf: Path) -> None:
    """Write a finished table, and beside it its manifest.

    Args:
        table: of scores.
        output: NAME.vcf, NAME.vcf.gz, NAME.tsv or NAME.parquet.
        vcf: where the alleles now lie that the table was made from.

    Raises:
        InputError: the VCF is no longer there or no longer the same, has such scores already, or the disk is full.
    """
    with atomic_write(output.with_name(f"{output.name}.manifest.json")) as stream:
        stream.write((table.folder / MANIFEST).read_text(encoding="utf-8"))
    _writer(output)(table, output, vcf)


def _writer(output: Path) -> Callable[[Table, Path, Path], None]:
    for ending, writer in _WRITERS.items():
        if output.name.lower().endswith(ending):
            return writer
    raise InputError(f"{output}: expected a name that ends in {', '.join(_WRITERS)}")


def _write_vcf(table: Table, output: Path, vcf: Path) -> None:
    scores = _scores(table)
    fields = [InfoField(f"HW_{name.upper()}", "Float", _DESCRIPTIONS[name]) for name in scores]
    rows = zip(*(_cells(table, name) for name in [*scores, STATUS]), strict=True)
    annotate_vcf(vcf, output, [*fields, _STATUS_FIELD], rows, command=_command(table))


def _write_tsv(table: Table, output: Path, vcf: Path) -> None:
    write_table(output, {title: _cells(table, name) for title, name in _columns(table).items()})


def _write_parquet(table: Table, output: Path, vcf: Path) -> None:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise InputError(f"{output}: writing Parquet needs pyarrow: pip install 'helixwave[genomics]'") from error
    kinds = {"position": pa.int64(), **dict.fromkeys(_scores(table), pa.float64())}
    schema = pa.schema([(title, kinds.get(title, pa.string())) for title in _columns(table)])
    with atomic_write(output, "wb") as stream, ParquetWriter(stream, schema) as writer:
        for block in range(table.n_block):
            arrays = [table.values(name, block).tolist() for name in _columns(table).values()]
            writer.write_table(pa.table(dict(zip(schema.names, arrays, strict=True)), schema=schema))


def _command(table: Table) -> str:
    """The command line that makes such a file, without what makes no difference to it."""
    inputs, options = table.manifest["inputs"], table.manifest["options"]
    rows, scoring = options["rows"], options["scoring"]
    words = ["helixwave score vcf", inputs["vcf"]["path"], "--reference", inputs["reference"]["path"]]
    words += ["--checkpoint", table.manifest["checkpoint"]["path"], "--score", ",".join(scoring["scores"])]
    words += [f"--{name.replace('_', '-')} {rows[name]}" for name in ("window", "center", "ref_mismatch")]
    words += [f"--{name} {scoring[name]}" for name in ("strand", "layer", "dtype") if scoring[name] is not None]
    return " ".join(words)


def _scores(table: Table) -> list[str]:
    return [name for names in SCORES.values() for name in names if name in table.columns]


def _columns(table: Table) -> dict[str, str]:
    """The columns of the table by their titles."""
    return {**_DESCRIBING, **{name: name for name in _scores(table)}}


def _cells(table: Table, name: str) -> Iterator[Any]:
    for block in range(table.n_block):
        yield from table.values(name, block).tolist()


_WRITERS = {
    ".vcf": _write_vcf,
    ".vcf.gz": _write_vcf,
    ".vcf.bgz": _write_vcf,
    ".tsv": _write_tsv,
    ".parquet": _write_parquet,
}
