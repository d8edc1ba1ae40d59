"""What a report says about DNA: which bases single predictions hang on, and how a model sees all sequences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from helixwave.data import Picture
from helixwave.data.batches import IGNORED
from helixwave.style import COLOURS, DIVERGING, GREY, MARKERS, in_style, plain
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helixwave_domains.genomics.alphabet import BASES
from helixwave_domains.genomics.label_model import DNALabelModel
from helixwave_domains.genomics.labels import LabelledSequences
from helixwave_domains.genomics.mutagenesis import mutagenesis
from helixwave_domains.genomics.seen import (
    Seen,
    Stretch,
    evenly,
    principal_components,
    see_bases,
    see_sequences,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# what is drawn: test sequences or bases, sequences that are mutated, and letters of all their mutations together
_MOST, _CHOSEN, _LETTERS = 1000, 4, 400_000
# a labelled base is read with so many on each side, of which the nearer ones are mutated
_CONTEXT, _MUTATED = 100, 20
# more columns than this are too narrow for a letter each
_LEGIBLE = 80
# stretches whose bases are looked at, and the length that they are read in
_PIECES, _PIECE = 4, 8192


@dataclass(frozen=True)
class Mutated:
    """What substitutions do to one class of one sequence.

    Args:
        title: which sequence and class.
        letters: the bases `[P]` that are substituted.
        first: the position of the first of them, counted from 1.
        changes: as `mutagenesis` gives them, of that class `[P, 4]`.
        at: the position of the base whose label is looked at, if it is not that of the whole sequence.
    """

    title: str
    letters: str
    first: int
    changes: NDArray[np.float32]
    at: int | None = None


def sequence_page(model: DNALabelModel, data: LabelledSequences) -> list[Picture]:
    """Pictures of a model of whole sequences: mutations of the surest test sequence of each class, and embeddings."""
    kept = evenly(range(len(data)), _MOST)
    sequences = [data.sequences[i] for i in kept]
    seen = see_sequences(model, [data.names[i] for i in kept], sequences, data.labels[kept])
    chosen = seen.most_confident(_CHOSEN)
    mutated = []
    for i in chosen:
        places = _middle(len(sequences[i]), _LETTERS // len(chosen) // (3 * len(sequences[i])))
        changes = mutagenesis(model, sequences[i], positions=places)[..., seen.labels[i]]
        letters = sequences[i][places.start : places.stop]
        mutated.append(Mutated(_title(seen, i, data.classes), letters, places.start + 1, changes))
    what = f"For each class{_of_many(data.classes)} the test sequence of it that the model is surest of"
    return [mutagenesis_picture(mutated, what), embedding_picture(seen, data.classes, "test sequence")]


def base_page(model: DNALabelModel, stretches: Sequence[Stretch], classes: list[str]) -> list[Picture]:
    """Pictures of a model of each base: mutations around the surest base of each class, and embeddings."""
    pieces = evenly([piece for stretch in stretches for piece in stretch.pieces(_PIECE)], _PIECES)
    places = _scored(pieces)
    if not len(places):
        return []
    seen = see_bases(model, pieces, places)
    mutated = []
    for i in seen.most_confident(_CHOSEN):
        stretch, position = pieces[places[i, 0]], int(places[i, 1])
        begin = max(0, position - _CONTEXT)
        letters, at = stretch.letters[begin : position + _CONTEXT + 1], position - begin
        near = range(max(0, at - _MUTATED), min(len(letters), at + _MUTATED + 1))
        changes = mutagenesis(model, letters, at=at, positions=near)[..., seen.labels[i]]
        first, looked = (stretch.start + begin + place + 1 for place in (near.start, at))
        shown = letters[near.start : near.stop]
        mutated.append(Mutated(_title(seen, i, classes), shown, first, changes, looked))
    what = f"For each class{_of_many(classes)} the test base of it that the model is surest of"
    around = f", read with {_CONTEXT} bases on either side"
    return [mutagenesis_picture(mutated, what + around), embedding_picture(seen, classes, "test base")]


@in_style
def mutagenesis_picture(mutated: Sequence[Mutated], what: str) -> Picture:
    """A heat map for each sequence: columns are positions, rows the base that is put there."""
    most = max(len(one.letters) for one in mutated)
    figure = Figure(figsize=(min(11.0, 3 + 0.12 * most), 0.2 + 1.2 * len(mutated)), layout="constrained")
    rows = figure.subplots(len(mutated), 1, squeeze=False)[:, 0]
    for axes, one in zip(rows, mutated, strict=True):
        figure.colorbar(_heat_map(axes, one), ax=axes, aspect=6, pad=0.01)
    caption = (
        f"{what}: how the log-odds of that class change, in nats and each on a scale of its own, if one base is "
        "replaced by another. Orange: the class becomes less likely; purple: more. Dots: the base that stands there."
    )
    return Picture("In-silico mutagenesis", caption, figure, _mutation_table(mutated))


@in_style
def embedding_picture(seen: Seen, classes: list[str], item: str) -> Picture:
    """Embeddings on their first two principal components, coloured by label."""
    points, shares = principal_components(seen.embeddings)
    figure = Figure(figsize=(5.2, 4.0))
    axes = figure.subplots()
    for number, name in enumerate(classes):
        own = points[seen.labels == number]
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=16,
            alpha=0.6,
            linewidths=0,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            label=f"{len(own)} {plain(name)}",
        )
    axes.set(xlabel=_component(1, shares[0]), ylabel=_component(2, shares[1]))
    axes.legend(bbox_to_anchor=(1, 1), loc="upper left", handletextpad=0.2)
    labels = [classes[i] for i in seen.labels]
    table: dict[str, Any] = {"name": seen.names, "label": labels, "pc1": points[:, 0], "pc2": points[:, 1]}
    caption = f"Each point is a {item}: the model's last hidden state, on the two directions in which they vary most."
    return Picture("Embeddings", caption, figure, table)


@in_style
def distance_picture(scores: Mapping[str, Sequence[Any]]) -> Picture:
    """Areas under the receiver operating characteristic by distance: columns `distance`, `machine` and `auroc`."""
    names = list(dict.fromkeys(scores["distance"]))
    figure = Figure(figsize=(1.5 + 1.2 * max(len(names), 2), 3.2))
    axes = figure.subplots()
    for place, name in enumerate(names):
        areas = [area for other, area in zip(scores["distance"], scores["auroc"], strict=True) if other == name]
        axes.plot([place] * len(areas), areas, linestyle="none", marker="o", markersize=4, alpha=0.6, color=COLOURS[0])
        axes.plot([place - 0.2, place + 0.2], [np.mean(areas)] * 2, color=COLOURS[0])
        axes.annotate(f"{np.mean(areas):.3f}", (place + 0.24, np.mean(areas)), va="center", fontsize=8)
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle="--")
    axes.set(xlim=(-0.6, len(names) - 0.2), ylabel="area under the ROC")
    axes.set_xticks(range(len(names)), [plain(name) for name in names])
    axes.set_xlabel("distance to the nearest transcription start")
    caption = "Each point is one machine, on the test variants at that distance; lines are means. Dashed: chance."
    return Picture("Effects by distance", caption, figure, scores)


def _heat_map(axes: "Axes", one: Mutated) -> Any:
    count, highest = len(one.letters), float(np.abs(one.changes).max()) or 1.0
    extent = (one.first - 0.5, one.first + count - 0.5, 3.5, -0.5)
    image = axes.imshow(
        one.changes.T, cmap=DIVERGING, vmin=-highest, vmax=highest, aspect="auto", extent=extent, interpolation="none"
    )
    places = [i for i, letter in enumerate(one.letters) if letter in BASES]
    rows = [BASES.index(one.letters[i]) for i in places]
    axes.plot(np.array(places) + one.first, rows, linestyle="none", marker=".", markersize=2, color="black")
    axes.set_yticks(range(4), BASES)
    axes.set_title(plain(f"{one.title}; bases {one.first:,} to {one.first + count - 1:,}"))
    if count <= _LEGIBLE:
        axes.set_xticks(range(one.first, one.first + count), one.letters, fontsize=6)
    for edge in () if one.at is None else (one.at - 0.5, one.at + 0.5):
        axes.axvline(edge, color="black", linewidth=0.8, linestyle=":")
    axes.tick_params(length=0)
    return image


def _mutation_table(mutated: Sequence[Mutated]) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {key: [] for key in ("sequence", "position", "from", "to", "change")}
    for one in mutated:
        for i, letter in enumerate(one.letters):
            for base, change in zip(BASES, one.changes[i].tolist(), strict=True):
                row = (one.title, one.first + i, letter, base, change)
                for column, value in zip(table.values(), row, strict=True):
                    column.append(value)
    return table


def _of_many(classes: list[str]) -> str:
    return f" of the first {_CHOSEN}" if len(classes) > _CHOSEN else ""


def _component(number: int, share: float) -> str:
    return f"component {number} ({share:.0%} of the variance)"


def _title(seen: Seen, i: int, classes: list[str]) -> str:
    label = seen.labels[i]
    return f"{seen.names[i]}: {classes[label]}, probability {seen.probabilities[i, label]:.3f}"


def _scored(stretches: Sequence[Stretch]) -> NDArray[np.int64]:
    """Places `[M, 2]` of bases with a class, spread evenly over the stretches."""
    places = [
        (number, position)
        for number, stretch in enumerate(stretches)
        for position in np.flatnonzero(stretch.target != IGNORED).tolist()
    ]
    return np.array(evenly(places, _MOST), dtype=np.int64).reshape(-1, 2)


def _middle(length: int, count: int) -> range:
    """At most so many places in the middle of a sequence, one at least."""
    count = min(length, max(1, count))
    start = (length - count) // 2
    return range(start, start + count)
