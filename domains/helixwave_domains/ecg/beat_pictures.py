"""What the split of the beats is worth."""

from typing import Any

import numpy as np
from helixwave.data import Picture
from helixwave.style import COLOURS, in_style
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier


def accuracy_by_record(data: Any, neighbours: int = 5) -> dict[str, NDArray[Any]]:
    """How many test beats of each record nearest neighbours get right, with and without its own training beats.

    Args:
        data: beats with their records, `MitdbBeats`.
        neighbours: that vote, by the lead.

    Returns:
        columns: the record, its test beats, and the two shares.
    """
    trained, tested = data.train.inputs[:, :, 0], data.test.inputs[:, :, 0]
    records = np.intersect1d(data.record["train"], data.record["test"])
    all_right = _right(trained, data.train.labels, tested, data.test.labels, neighbours)
    seen, unseen, count = [], [], []
    for record in records:
        others, own = data.record["train"] != record, data.record["test"] == record
        right = _right(trained[others], data.train.labels[others], tested[own], data.test.labels[own], neighbours)
        seen.append(all_right[own].mean())
        unseen.append(right.mean())
        count.append(own.sum())
    columns = {"record": records, "test beats": count, "patient seen in training": seen, "patient not seen": unseen}
    return {name: np.array(values) for name, values in columns.items()}


@in_style
def between_patients(data: Any) -> Picture:
    """Test beats of each record, told by other beats of the same patient or by those of other patients alone."""
    table = accuracy_by_record(data)
    figure = Figure(figsize=(6, 2.8))
    axes = figure.subplots()
    places = np.arange(len(table["record"]))
    for offset, name, colour in zip((-0.2, 0.2), list(table)[2:], COLOURS, strict=False):
        axes.bar(places + offset, table[name], width=0.4, label=name, color=colour)
    axes.set_xticks(places, [str(record) for record in table["record"]])
    axes.set(xlabel="record", ylabel="accuracy", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=2)
    caption = (
        "Five nearest neighbours on the lead: test beats of a record told by the training beats of all records, "
        "and of all others alone. The distance is what a split within records adds to every score of this report. A "
        "model trained and tested on different patients: helixwave train ecg/beats_inter_patient."
    )
    return Picture("Between patients", caption, figure, table)


def _right(
    trained: NDArray[Any], labels: NDArray[Any], tested: NDArray[Any], truth: NDArray[Any], neighbours: int
) -> NDArray[np.bool_]:
    return KNeighborsClassifier(neighbours).fit(trained, labels).predict(tested) == truth
