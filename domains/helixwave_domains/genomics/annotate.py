"""A VCF as it came, with what was found for each allele in its INFO column."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from math import isnan
from pathlib import Path
from typing import IO, Any, Literal

from helixwave.errors import InputError
from helixwave.files import atomic_write

from helixwave_domains.genomics.variants import alleles_in, is_record, vcf_lines

Value = float | str | None

_COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
_INFO = 7


@dataclass(frozen=True)
class InfoField:
    """A key of the INFO column with one value for each ALT (`Number=A`).

    Args:
        key: its name.
        type: of its values.
        description: one line for the header.
    """

    key: str
    type: Literal["Float", "String"]
    description: str

    @property
    def header(self) -> str:
        """The line that declares it."""
        text = self.description.replace("\\", "\\\\").replace('"', '\\"')
        return f'##INFO=<ID={self.key},Number=A,Type={self.type},Description="{text}">'


def annotate_vcf(
    source: Path | str,
    target: Path | str,
    fields: Sequence[InfoField],
    rows: Iterable[Sequence[Value]],
    *,
    command: str,
) -> None:
    """Copy a VCF line by line and add `fields` to the INFO of its records.

    All else stays as it is, byte for byte, but for what a VCF must have: missing header lines, columns up to INFO, and
    the end of the last line. A line of fewer than five columns stays as it is. Of a BCF, the VCF that it stands for.

    Args:
        source: VCF (plain, gzip or BGZF) or BCF.
        target: the new VCF; BGZF if its name ends in `.gz` or `.bgz`.
        fields: what to add.
        rows: for each allele, in the order of `read_alleles`, a value for each field; None and NaN become `.`.
        command: the command line, for the header.

    Raises:
        InputError: `source` is no VCF, has one of the fields already, or has more or fewer alleles than there are rows.
    """
    target = Path(target)
    lines = _annotated(Path(source), fields, iter(rows), command)
    packed = target.name.lower().endswith((".gz", ".bgz"))
    with atomic_write(target, "wb") as stream, _bgzf(target, stream) if packed else nullcontext(stream) as file:
        for line in lines:
            file.write(line)


def expect_annotatable(source: Path | str, fields: Sequence[InfoField]) -> None:
    """Raise InputError if the header of a VCF says that `annotate_vcf` will."""
    source, named = Path(source), False
    for line in vcf_lines(source):
        if is_record(line):
            if not named:
                _column_names(source, line)
            return
        named = named or line.startswith(b"#CHROM")
        _refuse_declared(source, line, fields)


def _bgzf(target: Path, stream: IO[bytes]) -> AbstractContextManager[Any]:
    try:
        from Bio.bgzf import BgzfWriter
    except ImportError as error:
        raise InputError(f"{target}: writing BGZF needs Biopython: pip install 'helixwave[genomics]'.") from error
    # the writer closes the file that it is given
    return BgzfWriter(fileobj=os.fdopen(os.dup(stream.fileno()), "wb"))


def _annotated(
    path: Path, fields: Sequence[InfoField], rows: Iterator[Sequence[Value]], command: str
) -> Iterator[bytes]:
    ours = [field.header for field in fields] + [f"##helixwave_command={' '.join(command.split())}"]
    end, declared = b"\n", False
    for number, line in enumerate(vcf_lines(path)):
        if number == 0:
            end = b"\r\n" if line.endswith(b"\r\n") else b"\n"
            if not line.startswith(b"##fileformat="):
                yield b"##fileformat=VCFv4.2" + end
        if not declared and (line.startswith(b"#CHROM") or is_record(line)):
            yield from (text.encode() + end for text in ours)
            if is_record(line):
                yield _column_names(path, line) + end
            declared = True
        line = line if line.endswith(b"\n") else line + end
        if is_record(line):
            line = _with_values(path, line, fields, rows)
        else:
            _refuse_declared(path, line, fields)
        yield line
    if not declared:
        yield from (text.encode() + end for text in [*ours, _COLUMNS.decode()])
    if next(rows, None) is not None:
        raise _other_file(path)


def _column_names(path: Path, line: bytes) -> bytes:
    """The line that names the columns, for a file that lacks it."""
    columns = line.count(b"\t") + 1
    if columns > _INFO + 1:
        raise InputError(
            f"{path}: no line '#CHROM ...' above the first record of {columns} columns, so that the samples have no "
            f"names. Add it."
        )
    return _COLUMNS


def _with_values(path: Path, line: bytes, fields: Sequence[InfoField], rows: Iterator[Sequence[Value]]) -> bytes:
    count = alleles_in(line)
    values = list(islice(rows, count))
    if len(values) < count:
        raise _other_file(path)
    text = line.rstrip(b"\r\n")
    columns = text.split(b"\t", _INFO + 1)
    if len(columns) < 5:
        return line
    columns += [b"."] * (_INFO + 1 - len(columns))
    present = columns[_INFO].strip(b";")
    for field in fields:
        if f";{field.key}=".encode() in b";" + present:
            raise _present(path, field)
    entries = [
        f"{field.key}={','.join(map(_written, column))}"
        for field, column in zip(fields, zip(*values, strict=True), strict=True)
    ]
    added = ";".join(entries).encode()
    columns[_INFO] = added if present in (b"", b".") else present + b";" + added
    return b"\t".join(columns) + line[len(text) :]


def _written(value: Value) -> str:
    if isinstance(value, str):
        return value
    return "." if value is None or isnan(value) else f"{value:.6g}"


def _refuse_declared(path: Path, line: bytes, fields: Sequence[InfoField]) -> None:
    for field in fields:
        if line.startswith(f"##INFO=<ID={field.key},".encode()):
            raise _present(path, field)


def _present(path: Path, field: InfoField) -> InputError:
    return InputError(f"{path}: has INFO {field.key} already. Remove it: `bcftools annotate -x INFO/{field.key}`.")


def _other_file(path: Path) -> InputError:
    return InputError(f"{path}: has not as many alleles as there are results. Did it change since? Run again.")
