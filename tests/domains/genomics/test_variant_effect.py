"""Effects of variants from a checkpoint's embeddings: rows, windows, features and the machines on them."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from helixwave.checkpoint import build_model, load, save
from helixwave.errors import InputError
from helixwave.recipe import load_recipe
from helixwave.run_folder import RunFolder
from helixwave.train import run
from helixwave_domains.genomics.allele_embeddings import embed_alleles
from helixwave_domains.genomics.alphabet import VOCABULARY
from helixwave_domains.genomics.fasta import write_fasta
from helixwave_domains.genomics.variant_effect import VariantEffect
from helixwave_domains.genomics.variant_estimators import EmbeddingSVM, VariantLogisticRegression
from helixwave_domains.genomics.variant_tables import read_variants

HEADER = "chrom,pos,ref,alt,label,tissue,distance_to_nearest_tss"
BACKBONE = {
    "d_model": 4,
    "n_layer": 1,
    "blocks": [{"name": "bidirectional", "block": {"name": "mamba", "d_state": 2}}],
}


def genome() -> dict[str, str]:
    rng = np.random.default_rng(0)
    return {f"chr{name}": "".join(rng.choice(list("ACGT"), 3000)) for name in ("1", "2", "9", "10")}


def rows(count: int = 240) -> list[str]:
    """A variant has an effect if the reference's letter is A or T, whatever the strand; all bins of distance occur."""
    letters, rng = genome(), np.random.default_rng(1)
    made = []
    for i in range(count):
        contig = list(letters)[i % 4]
        position = int(rng.integers(100, 2900))
        ref = letters[contig][position - 1]
        alt = "ACGT"[("ACGT".index(ref) + 1 + i % 3) % 4]
        distance = (1_000, -50_000, 400_000)[i // 4 % 3]
        made.append(f"{contig.removeprefix('chr')},{position},{ref},{alt},{int(ref in 'AT')},liver,{distance}")
    return made


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("HELIXWAVE_CACHE", str(tmp_path / "cache"))
    write_fasta(tmp_path / "g.fa", genome().items())
    (tmp_path / "v.csv").write_text("\n".join([HEADER, *rows()]) + "\n")
    return {"variants": str(tmp_path / "v.csv"), "genome": str(tmp_path / "g.fa")}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = {"model": {"name": "dna_language_model"}, "backbone": BACKBONE, "classes": list(VOCABULARY)}
    model = build_model(config)
    with torch.no_grad():
        model.embedding.weight.normal_()
    save(model, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def write(folder: Path, name: str, *lines: str) -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


def test_rows_stand_in_their_parts(files: dict[str, str]) -> None:
    data = VariantEffect(**files, window=64)
    assert data.classes == ["0", "1"]
    assert data.bins == ["0 to 30 kb", "30 to 100 kb", "beyond 100 kb"]
    assert [len(part) for part in (data.train, data.validation, data.test)] == [108, 12, 120]
    tested = {data.alleles[i].contig for i in data.test.alleles}
    assert tested == {"9", "10"}
    assert {data.alleles[i].contig for i in data.train.alleles} == {"1", "2"}
    assert [rows.sum() for rows in data.test_groups.values()] == [40, 40, 40]
    again, other = (VariantEffect(**files, window=64, split_seed=seed) for seed in (0, 1))
    assert (again.validation.alleles == data.validation.alleles).all()
    assert not np.array_equal(other.validation.alleles, data.validation.alleles)
    for part in (data.train, data.test):
        for number, label, place in zip(part.alleles, part.labels, part.bins, strict=True):
            assert label == (data.alleles[number].ref in "AT")
            assert 0 <= place < 3


def test_each_allele_is_there_once_and_what_cannot_be_used_is_counted(files: dict[str, str], tmp_path: Path) -> None:
    letters = genome()
    unknown = {"chr1": "N" * 200 + letters["chr1"][200:], **{k: v for k, v in letters.items() if k != "chr1"}}
    write_fasta(tmp_path / "n.fa", unknown.items())
    more = [*rows(), *rows(8), "1,90,A,C,1,lung,5", "7,100,A,C,1,lung,5", "2,9000,A,C,1,lung,5", "2,50,N,A,0,lung,5"]
    wrong = "ACGT"[("ACGT".index(letters["chr2"][499]) + 1) % 4]
    other = "ACGT"[("ACGT".index(letters["chr2"][499]) + 2) % 4]
    near = letters["chr1"][209]
    more += [f"2,500,{wrong},{other},1,lung,5", f"1,210,{near},{'AC'[near == 'A']},1,lung,5"]
    path = write(tmp_path, "more.csv", HEADER, *more)
    data = VariantEffect(variants=path, genome=str(tmp_path / "n.fa"), window=64)
    keys = [(a.contig, a.position, a.ref, a.alt) for a in data.alleles]
    assert len(keys) == len(set(keys))
    left = data.describe()["variants left out"]
    for reason in ("1 outside_contig", "1 unknown_contig", "ref_mismatch", "too_many_unknown_bases"):
        assert reason in left
    assert sum(data.dropped.values()) + sum(map(len, (data.train, data.validation, data.test))) == len(more)
    kept = VariantEffect(variants=path, genome=str(tmp_path / "n.fa"), window=64, on_mismatch="keep", most_unknown=1.1)
    assert set(kept.dropped) == {"outside_contig", "unknown_contig"}


def test_a_vcf_says_the_same_as_a_table(files: dict[str, str], tmp_path: Path) -> None:
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for row in rows():
        contig, position, ref, alt, label, tissue, distance = row.split(",")
        info = f"X;LABEL={label};TISSUE={tissue};TSS_DISTANCE={distance}"
        lines.append(f"{contig}\t{position}\t.\t{ref}\t{alt}\t.\t.\t{info}")
    (tmp_path / "v.vcf.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    table, vcf = read_variants(files["variants"]), read_variants(tmp_path / "v.vcf.gz")
    for one, other in zip(table, vcf, strict=True):
        assert (one.label, one.tissue, one.distance, one.split) == (other.label, other.tissue, other.distance, "")
        assert str(one.allele) == str(other.allele)


def test_a_table_may_say_the_split_and_leave_out_the_rest(files: dict[str, str], tmp_path: Path) -> None:
    short = [",".join(row.split(",")[:5]) + f",{'test' if i % 2 else 'train'}" for i, row in enumerate(rows())]
    path = write(
        tmp_path,
        "s.tsv",
        "#CHROM,POSITION,REF,ALT,Class,split".replace(",", "\t"),
        *[r.replace(",", "\t") for r in short],
    )
    data = VariantEffect(variants=path, genome=files["genome"], window=64)
    assert data.bins == ["all"]
    assert data.tissues == [""]
    assert len(data.test) == 120


@pytest.mark.parametrize("around", [5, 16])
def test_embeddings_are_means_around_the_variant_on_both_strands(
    around: int, files: dict[str, str], checkpoint: Path
) -> None:
    data = VariantEffect(**files, window=32)
    data.alleles = data.alleles[:6]
    model = load(checkpoint)
    found = embed_alleles(model, data, around=around, tokens=100)
    assert found.shape == (len(data.alleles), 8)
    complement = str.maketrans("ACGT", "TGCA")
    for number in (0, len(data.alleles) - 1):
        halves = []
        for letters in (data.windows(number).ref, data.windows(number).alt):
            ahead, behind = (
                model.hidden(torch.from_numpy(model.tokenizer.encode(strand))[None])[0].detach()
                for strand in (letters, letters.translate(complement)[::-1])
            )
            both = (ahead + behind.flip(0)) / 2
            halves.append(both[16 - around : 16 + around + 1].mean(0))
        np.testing.assert_allclose(found[number], torch.cat(halves), atol=1e-5)
    assert data.windows(0).ref[16] == data.alleles[0].ref


def test_embeddings_are_made_once(
    files: dict[str, str], checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("helixwave_domains.genomics.allele_embeddings._CHUNK", 100)
    data = VariantEffect(**files, window=32)
    model = load(checkpoint)
    first = embed_alleles(model, data, around=8, tokens=1000)
    stored = sorted((tmp_path / "cache" / "allele_embeddings").iterdir())
    assert len(stored) == -(-len(data.alleles) // 100)
    stored[1].unlink()
    calls = []
    strand = model.strand
    monkeypatch.setattr(model, "strand", lambda ids, **how: calls.append(len(ids)) or strand(ids, **how))
    assert (embed_alleles(model, data, around=8, tokens=1000) == first).all()
    # both alleles on both strands
    assert 0 < sum(calls) <= 400
    calls.clear()
    assert not np.allclose(embed_alleles(model, data, around=4, tokens=1000), first)
    assert sum(calls) > 400


def test_machines_find_an_effect_at_every_distance(files: dict[str, str], checkpoint: Path) -> None:
    data = VariantEffect(**files, window=32)
    svm = EmbeddingSVM(checkpoint=str(checkpoint), around=0, repeats=2, rows=30, strengths=(1.0, 10.0))
    outputs, target = svm.predict(data)
    assert outputs.shape == (120, 2)
    assert outputs.exp().sum(-1).numpy() == pytest.approx(1)
    assert (target.numpy() == data.test.labels).all()
    assert ((outputs.argmax(-1) == target).double().mean()) > 0.8
    assert svm.scores["distance"] == [name for name in data.bins for _ in range(2)]
    assert min(svm.scores["auroc"]) > 0.8
    assert set(svm.scores["C"]) <= {1.0, 10.0}
    assert "2 support vector machines on embeddings of" in svm.description
    data.test.labels[:] = 0
    again, _ = svm.predict(data)
    assert again.equal(outputs)


def test_baseline_reads_letters_alone(files: dict[str, str]) -> None:
    data = VariantEffect(**files, window=16)
    baseline = VariantLogisticRegression(context=3, strengths=(0.1,))
    outputs, target = baseline.predict(data)
    assert ((outputs.argmax(-1) == target).double().mean()) > 0.9
    assert "C=0.1 by 5-fold cross-validation" in baseline.description


def test_recipe_runs_beside_its_baseline(files: dict[str, str], checkpoint: Path, tmp_path: Path) -> None:
    given = [f"data.{key}={value}" for key, value in files.items()]
    small = ["data.window=32", "estimator.around=1", "estimator.repeats=2", "estimator.rows=30"]
    recipe = load_recipe(
        "genomics/variant_effect", [*given, *small, f"estimator.checkpoint={checkpoint}", "baseline.strengths=[0.1]"]
    )
    place = RunFolder(tmp_path / "run")
    place.create(recipe)
    results = run(recipe, place)
    assert results.monitor == "auroc"
    assert set(results.parts) == {"0 to 30 kb", "30 to 100 kb", "beyond 100 kb"}
    assert results.baseline is not None
    page = place.report.read_text()
    for shown in ("Scores on parts of the test split", "Effects by distance", "support vector machines"):
        assert shown in page
    assert (place.tables / "effects_by_distance.tsv").read_text().startswith("distance\tC\tmachine\tauroc\t")
    assert not place.checkpoint.exists()
    assert place.read_recipe().estimator == recipe.estimator


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chrom,pos,ref,alt", "no column 'label', found chrom, pos, ref, alt"),
        (f"{HEADER}\n1,5,A,C", "line 2: 4 columns, expected 7"),
        (f"{HEADER}\n1,x,A,C,1,liver,5", "line 2: chrom '1' and pos 'x', expected a name and a whole number"),
        (f"{HEADER}\n1,5,A,<DEL>,1,liver,5", "line 2: ref 'A' and alt '<DEL>', expected letters"),
        (f"{HEADER}\n1,5,A,C,,liver,5", "line 2: the label is empty"),
        (f"{HEADER}\n1,5,A,C,1,liver,far", "line 2: 'far' is no distance, expected a number of bases"),
        (f"{HEADER},split\n1,5,A,C,1,liver,5,val", "line 2: split is 'val', expected train or test"),
        (HEADER, "the file holds no variant"),
        (f"{HEADER}\n1,500,A,C,1,liver,5", "labels are 1, expected two of them"),
    ],
)
def test_tables_that_cannot_be_read(line: str, message: str, files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        VariantEffect(variants=write(tmp_path, "bad.csv", line), genome=files["genome"])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("1\t5\t.\tA\tC\t.\t.\tTISSUE=x", "1:5 A>C: the label is empty"),
        ("1\t5\t.\tA\tC", "1:5 A>C: the label is empty"),
        ("1\tx\t.\tA\tC\t.\t.\tLABEL=1", "record 1 cannot be read"),
    ],
)
def test_vcfs_that_cannot_be_read(record: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_variants(write(tmp_path, "bad.vcf", "##fileformat=VCFv4.2", record))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test_contigs": ("5",)}, "no variant to test on, expected some on 5"),
        ({"validation": 1.0}, "validation is 1.0, expected more than 0 and less than 1"),
        ({"validation": 0.01}, "too few of a class at some distance to split off data.validation=0.01"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, object], message: str, files: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        VariantEffect(**files, window=16, **arguments)
    assert message in str(caught.value)


def test_estimators_that_cannot_be(files: dict[str, str], checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rows 0, repeats 5 and around 768, expected at least 1, 1 and 0"):
        EmbeddingSVM(checkpoint="x", rows=0)
    data = VariantEffect(**files, window=32)
    config = {"model": {"name": "dna_language_model", "context": 16}, "backbone": BACKBONE, "classes": list(VOCABULARY)}
    save(build_model(config), tmp_path / "short")
    with pytest.raises(InputError, match="window is 32, expected at most 16, which this checkpoint was made for"):
        EmbeddingSVM(checkpoint=str(tmp_path / "short")).predict(data)
    save(build_model({**config, "model": {"name": "token_model"}}), tmp_path / "other")
    with pytest.raises(InputError, match=r"other is a TokenModel, expected a model of DNA"):
        EmbeddingSVM(checkpoint=str(tmp_path / "other")).predict(data)
    data.validation.labels[:] = 0
    with pytest.raises(InputError, match=r"the validation part has not both classes at the distance '0 to 30 kb'"):
        EmbeddingSVM(checkpoint=str(checkpoint)).predict(data)
    with pytest.raises(InputError, match=r"variant_effect is for an estimator.*estimator.name=embedding_svm"):
        data.train.example(0, None)
