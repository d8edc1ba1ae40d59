from dataclasses import replace

import numpy as np
import pytest
from helixwave.errors import InputError
from helixwave_domains.genomics.annotation import read_genome
from helixwave_domains.genomics.fasta import write_fasta
from helixwave_domains.genomics.genome import (
    IGNORED,
    CodingSegment,
    Genome,
    coding_classes,
    labels,
    reverse_complement,
    reverse_complement_labels,
)
from helixwave_domains.genomics.tracks import Segment, plot_track, segments, write_bed, write_gff3
from hypothesis import given, settings
from hypothesis import strategies as st

CLASSES = st.lists(st.integers(0, 6), max_size=40).map(lambda classes: np.array(classes, dtype=np.int8))


def gene(length, strand="+", phase=0):
    """Classes of a gene that fills its sequence."""
    return coding_classes([CodingSegment(0, length, strand, phase)], length)


def confident(classes, right=0.9):
    probabilities = np.full((len(classes), 7), (1 - right) / 6)
    probabilities[np.arange(len(classes)), classes] = right
    return probabilities


def best_by_trying_all(scores, penalty):
    """The greatest sum that any path can reach."""
    best = scores[0]
    for row in scores[1:]:
        best = np.maximum(best, (best[:, None] - penalty + np.zeros(len(row))).max(axis=0)) + row
    return best.max()


@given(CLASSES)
def test_segments_without_a_penalty_are_the_labels(classes):
    found = segments(classes, switch_penalty=0.0)
    np.testing.assert_array_equal(coding_classes(found, len(classes)), classes)
    assert all(segment.score == 1 for segment in found)
    assert found == sorted(found)


@given(CLASSES, st.integers(0, 10))
def test_segments_do_not_depend_on_where_the_contig_begins(classes, start):
    here = segments(classes, switch_penalty=2.0)
    moved = segments(classes, switch_penalty=2.0, start=start)
    assert moved == [replace(s, start=s.start + start, end=s.end + start) for s in here]


@given(CLASSES)
def test_segments_of_the_other_strand_are_the_other_way_round(classes):
    T = len(classes)
    turned = {
        (T - s.end, T - s.start, {"+": "-", "-": "+"}[s.strand], s.phase) for s in segments(classes, switch_penalty=0.0)
    }
    other = segments(reverse_complement_labels(classes), switch_penalty=0.0)
    assert {(s.start, s.end, s.strand, s.phase) for s in other} == turned


@given(st.integers(1, 30), st.floats(0, 8), st.integers(0, 1000))
def test_no_path_is_better_than_the_one_found(length, penalty, seed):
    from helixwave_domains.genomics.tracks import _best_path

    scores = np.random.default_rng(seed).normal(size=(length, 7)) * 3
    path = _best_path(scores, penalty)
    reached = scores[np.arange(length), path].sum() - penalty * np.count_nonzero(np.diff(path))
    np.testing.assert_allclose(reached, best_by_trying_all(scores, penalty))


@pytest.mark.parametrize("strand", "+-")
@pytest.mark.parametrize("phase", [0, 1, 2])
def test_a_few_stray_bases_do_not_break_a_gene(strand, phase):
    classes = gene(90, strand, phase)
    classes[40:43] = 0
    classes[60] = 1 + classes[60] % 6
    (found,) = segments(confident(classes), switch_penalty=10.0)
    assert (found.start, found.end, found.strand, found.phase) == (0, 90, strand, phase)
    assert found.score == pytest.approx((86 * 0.9 + 4 * 0.1 / 6) / 90, abs=1e-6)


def test_a_few_stray_bases_make_no_gene():
    classes = np.zeros(60, dtype=int)
    classes[20:23] = [1, 2, 3]
    assert segments(confident(classes)) == []
    assert len(segments(confident(classes), switch_penalty=0.0)) == 1


def test_change_of_frame_is_a_new_segment():
    found = segments(confident(np.concatenate([gene(40), gene(40)])))
    assert [(s.start, s.end, s.phase, s.frame) for s in found] == [(0, 40, 0, 1), (40, 80, 0, 2)]


def test_short_segments_can_be_dropped():
    classes = np.concatenate([gene(9), np.zeros(9, dtype=np.int8), gene(12, "-")])
    assert [(s.start, s.end) for s in segments(classes, switch_penalty=0.0, min_length=10)] == [(18, 30)]


def test_ignored_labels_are_intergenic():
    assert segments(np.array([IGNORED, 1, 2, 3, IGNORED]), switch_penalty=0.0) == [Segment(1, 4, "+", 0, 1.0)]


def test_no_base_has_no_segment():
    assert segments(np.zeros((0, 7))) == []
    assert segments(np.zeros(0, dtype=int)) == []


@pytest.mark.parametrize("prediction", [np.zeros((5, 6)), np.zeros(5), np.array([7]), np.zeros((2, 5, 7))])
def test_other_shapes_are_refused(prediction):
    with pytest.raises(ValueError, match=r"segments: prediction has shape .*expected probabilities \[T, 7\]"):
        segments(prediction)


@pytest.mark.parametrize(
    ("segment", "frame"),
    [
        (Segment(0, 9, "+", 0), 1),
        (Segment(1, 9, "+", 0), 2),
        (Segment(1, 9, "+", 1), 3),
        (Segment(0, 9, "-", 0), 3),
        (Segment(0, 9, "-", 2), 1),
    ],
)
def test_frame_is_where_codons_begin(segment, frame):
    assert segment.frame == frame


@settings(max_examples=30, deadline=None)
@given(CLASSES.filter(lambda classes: (classes > 0).any()), st.text("ACd;=%| >,&", min_size=1, max_size=6))
def test_gff3_is_read_back(tmp_path_factory, classes, odd_letters):
    folder = tmp_path_factory.mktemp("track")
    # a FASTA name ends at white space; only GFF3 can hold more
    name = "c" + "".join(odd_letters.split())
    write_fasta(folder / "c.fa", [(name, "A" * len(classes))])
    write_gff3(folder / "c.gff3", {name: (len(classes), segments(classes, switch_penalty=0.0))})
    (again,) = read_genome(folder / "c.fa", folder / "c.gff3")
    np.testing.assert_array_equal(labels(again), classes)


@settings(max_examples=30, deadline=None)
@given(CLASSES)
def test_bed_is_read_back(tmp_path_factory, classes):
    path = tmp_path_factory.mktemp("track") / "c.bed"
    found = segments(classes, switch_penalty=0.0)
    write_bed(path, {"c": (len(classes), found)})
    again = []
    for line in path.read_text().splitlines():
        chrom, start, end, name, score, strand = line.split("\t")
        assert (chrom, score, name[:6]) == ("c", "1000", f"frame{strand}")
        candidates = [Segment(int(start), int(end), strand, phase) for phase in range(3)]
        again.append(next(segment for segment in candidates if segment.frame == int(name[6:])))
    assert again == found


def test_gff3_lines(tmp_path):
    path = tmp_path / "c.gff3"
    track = {"a;b c": (9, [Segment(0, 6, "+", 1, 0.75)]), "d": (5, []), "e": (6, [Segment(1, 4, "-", 0, 0.5)])}
    write_gff3(path, track)
    assert path.read_text().splitlines() == [
        "##gff-version 3",
        "##sequence-region a%3Bb%20c 1 9",
        "##sequence-region d 1 5",
        "##sequence-region e 1 6",
        "a%3Bb%20c\thelixwave\tCDS\t1\t6\t0.7500\t+\t1\tID=cds1;frame=+2",
        "e\thelixwave\tCDS\t2\t4\t0.5000\t-\t0\tID=cds2;frame=-1",
    ]


@pytest.mark.parametrize("write_track", [write_gff3, write_bed])
def test_segment_beyond_the_contig_leaves_the_old_file(tmp_path, write_track):
    path = tmp_path / "track"
    path.write_text("old")
    with pytest.raises(ValueError, match="segment 3-9 is not within c of 8 bases"):
        write_track(path, {"c": (8, [Segment(3, 9, "+", 0)])})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_bed_refuses_a_name_with_white_space(tmp_path):
    with pytest.raises(InputError, match="no way to write the contig name 'a b'"):
        write_bed(tmp_path / "c.bed", {"a b": (9, [])})


def test_picture_shows_annotation_and_prediction():
    genome = Genome("c", "A" * 300, [CodingSegment(0, 90, "+", 0), CodingSegment(120, 180, "-", 0)], [(200, 220)])
    figure = plot_track(genome, confident(labels(reverse_complement(genome)) * 0), shaded=[(100, 200)], end=250)
    annotated, predicted = figure.axes
    assert annotated.get_ylabel() == "annotated"
    assert predicted.get_xlim() == (0, 250)
    assert [label.get_text() for label in predicted.get_yticklabels()] == ["+1", "+2", "+3", "-1", "-2", "-3"]
    drawn = [sum(len(bars.get_paths()) for bars in axes.collections) for axes in (annotated, predicted)]
    assert drawn == [2 + 1 + 1, 1 + 1]


def test_picture_is_drawn(tmp_path):
    genome = Genome("c", "A" * 30, [CodingSegment(0, 9, "+", 0)])
    plot_track(genome, labels(genome)).savefig(tmp_path / "track.png")
    assert (tmp_path / "track.png").stat().st_size > 1000
