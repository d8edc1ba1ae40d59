"""What cannot be done is said in a line, and leaves nothing behind."""

import pytest
import torch
from helixwave.checkpoint import build_model, save

pytest.importorskip("zarr")

EMBED = ("embed", "fasta", "my.fa")
SCORE = ("score", "vcf", "calls.vcf", "--reference", "genome.fa", "--window", "20")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["embed", "fasta", "none.fa"], "none.fa: no such FASTA file"),
        ([*EMBED, "--pool", "mode"], "pool is 'mode'"),
        ([*EMBED, "--shard", "3/2"], "shard is '3/2', expected I/N with I from 1 to N, such as 1/4"),
        ([*EMBED, "--device", "cuda:99", "--workers", "2"], "--workers 2 are for a CPU, the device is cuda:99"),
        ([*EMBED, "--window", "65"], "window is 65, expected at most 64, which this checkpoint was made for"),
        ([*EMBED, "--layer", "2"], "layer is 2, expected 0 (the embedding) to 1 (after the last layer), or -2 to -1"),
        (
            [*SCORE, "-o", "scores.xlsx"],
            "scores.xlsx: expected a name that ends in .vcf, .vcf.gz, .vcf.bgz, .tsv, .parquet",
        ),
        ([*SCORE, "-o", "s.tsv", "--score", "likelihood"], "score likelihood needs a causal language model"),
        ([*SCORE, "-o", "s.tsv", "--center", "20"], "window 20 with center 20: expected a window of at least 1"),
    ],
)
def test_options(words, message, here, checkpoints, refused):
    before = sorted(here.rglob("*"))
    assert message in refused(*words, "--checkpoint", checkpoints / "masked")
    assert [path for path in sorted(here.rglob("*")) if not path.name.endswith(".fai")] == before


def test_checkpoints_that_are_none(here, refused):
    assert "nowhere: no such checkpoint. Expected the folder of a run" in refused(*EMBED, "--checkpoint", "nowhere")
    with torch.random.fork_rng():
        backbone = {"d_model": 8, "n_layer": 1, "blocks": [{"name": "mlp"}]}
        save(build_model({"model": {"name": "token_model"}, "backbone": backbone, "classes": ["a", "b"]}), here / "t")
    assert "t: holds a TokenModel, expected a language model" in refused(*EMBED, "--checkpoint", "t")
