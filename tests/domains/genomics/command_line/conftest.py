"""The command line in a folder of files that a newcomer might have."""

import contextlib
import gzip
import io
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helixwave.checkpoint import build_model, save
from helixwave.cli import main
from helixwave_domains.genomics.alphabet import VOCABULARY
from helixwave_domains.genomics.fasta import write_fasta

BACKBONES = {
    "causal": {"d_model": 8, "n_layer": 2, "blocks": [{"name": "hyena", "l_max": 64, "d_filter": 8}, {"name": "mlp"}]},
    "masked": {"d_model": 8, "n_layer": 1, "blocks": [{"name": "bimamba", "d_state": 4}]},
}
CONTIG = "".join(random.Random(0).choices("ACGT", k=300))
SEQUENCES = [("first", "ACGTTGCAACGATTACA"), ("second", "acgnnryt"), ("second", "GATTACA"), ("last", "A" * 70)]
RECORDS = [
    (5, CONTIG[4], "A,C,G,T"),
    (40, CONTIG[39], "<DEL>"),
    (41, CONTIG[40], "."),
    (100, CONTIG[99], CONTIG[99] + "GG"),
    (299, "A" if CONTIG[298] != "A" else "C", "G"),
    (300, CONTIG[299], "C" if CONTIG[299] != "C" else "G"),
]
CALLS = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(
    f"1\t{position}\trs{position}\t{ref}\t{alts}\t.\t.\tDP=7\n" for position, ref, alts in RECORDS
)
BED = "chr1\t10\t30\tpeak\t0\t-\n1\t0\t4\tedge\nchr1\t290\t310\tbeyond\nchr9\t0\t4\tnowhere\n"

Words = Callable[..., str]


@pytest.fixture(scope="session")
def contig() -> str:
    return CONTIG


@pytest.fixture(scope="session")
def sequences() -> list[tuple[str, str]]:
    return SEQUENCES


@pytest.fixture(scope="session")
def real_calls(data_folder: Path) -> list[tuple[Path, list[list[bytes]]]]:
    """Real VCF files, all with one reference, and the columns of their records."""
    found = sorted([*(data_folder / "vcf_edge").glob("*.vcf*"), *(data_folder / "hg38_chr1_1m").glob("*.vcf")])
    assert len(found) >= 14
    calls = []
    for path in found:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            lines = [line.rstrip(b"\r\n") for line in stream if line.strip() and not line.startswith(b"#")]
        calls.append((path, [line.split(b"\t") for line in lines]))
    return calls


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with language models of 64 letters of context, `causal` and `masked`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, backbone in BACKBONES.items():
            config = {"model": {"name": "dna_language_model", "context": 64}, "backbone": backbone}
            save(build_model({**config, "classes": list(VOCABULARY)}), folder / name)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, in which the command line is."""
    monkeypatch.setenv("HELIXWAVE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.fa").write_text("".join(f">{name} some words\n{letters}\n" for name, letters in SEQUENCES))
    (tmp_path / "calls.vcf").write_text(CALLS)
    (tmp_path / "peaks.bed").write_text(BED)
    write_fasta(tmp_path / "genome.fa", [("chr1", CONTIG)])
    return tmp_path


@pytest.fixture(scope="session")
def run() -> Callable[..., None]:
    """Calls `helixwave` with words."""

    def call(*words: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
            patch.setattr(sys, "argv", ["helixwave", *map(str, words)])
            main()

    return call


@pytest.fixture(scope="session")
def ended(run: Callable[..., None]) -> Callable[..., tuple[int, str]]:
    """Calls `helixwave` and gives its exit code and what it prints."""

    def call(*words: object) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), pytest.raises(SystemExit) as end:
            run(*words)
        return int(end.value.code or 0), output.getvalue()

    return call


@pytest.fixture(scope="session")
def done(ended: Callable[..., tuple[int, str]]) -> Words:
    """Calls `helixwave`, which must succeed, and gives what it prints."""

    def call(*words: object) -> str:
        code, output = ended(*words)
        assert code == 0, output
        return output

    return call


@pytest.fixture(scope="session")
def refused(ended: Callable[..., tuple[int, str]]) -> Words:
    """Calls `helixwave`, which must refuse, and gives its one line."""

    def call(*words: object) -> str:
        code, output = ended(*words)
        assert code == 1, output
        assert output.count("\n") == 1, output
        return output

    return call
