"""Memory is that of a block of rows, however many there are and however long the contig is."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("zarr")

PROGRAM = """
import resource, sys
from helixwave.cli import main
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_genome(path, length):
    """One contig of random bases in lines of 80."""
    random, line = np.random.default_rng(0), 80
    with path.open("wb") as stream:
        stream.write(b">chr1\n")
        for start in range(0, length, 8_000_000):
            count = min(8_000_000, length - start) // line
            letters = np.frombuffer(b"ACGT", np.uint8)[random.integers(0, 4, (count, line), dtype=np.uint8)]
            stream.write(np.pad(letters, ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes())


def write_calls(path, count, length):
    """SNVs all over the contig, a quarter of which have the right REF."""
    with path.open("w") as stream:
        stream.write("##fileformat=VCFv4.2\n")
        stream.writelines(f"1\t{i * (length // count) + 1}\t.\t{'ACG'[i % 3]}\tT\t.\t.\t.\n" for i in range(count))


def peak(*words):
    """Megabytes of a process of its own."""
    output = subprocess.run([sys.executable, "-c", PROGRAM, *map(str, words)], capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    # kilobytes, on macOS bytes
    return int(output.stdout.split("peak ")[1]) / (1e6 if sys.platform == "darwin" else 1e3)


@pytest.mark.slow
@pytest.mark.parametrize("command", [["score", "vcf"], ["embed", "vcf"]], ids=["score", "embed"])
def test_many_alleles_on_a_long_contig(command, here, checkpoints):
    """Ten blocks and one, 250 million bases and 400 thousand; a bound that neither the contig nor the rows fit in."""
    lengths, counts = (400_000, 250_000_000), (16_000, 160_000)
    words = [*command, "calls.vcf", "--reference", "long.fa", "--checkpoint", checkpoints / "masked", "--window", 8]
    peaks = []
    for length, count in zip(lengths, counts, strict=True):
        write_genome(here / "long.fa", length)
        write_calls(here / "calls.vcf", count, length)
        output = "o.tsv" if command[0] == "score" else "o.zarr"
        peaks.append(peak(*words, "-o", output, "--overwrite"))
    assert peaks[1] < peaks[0] + 40


@pytest.mark.slow
def test_a_long_record(here, checkpoints):
    """Its letters are in memory, its hidden states are not: here those of all positions would be 128 MB."""
    peaks = []
    for length in (80_000, 4_000_000):
        write_genome(here / "long.fa", length)
        words = ["long.fa", "--checkpoint", checkpoints / "masked", "-o", "o.zarr", "--overwrite"]
        peaks.append(peak("embed", "fasta", *words, "--batch-tokens", 2**14))
    assert peaks[1] < peaks[0] + 60
