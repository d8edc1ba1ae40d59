"""Probabilities along the hours: nothing short is lost, every class has its name."""

import numpy as np
import pytest
from helixwave_domains.ecg.timeline_picture import in_columns, timeline_picture


def test_a_short_episode_of_a_long_recording_is_seen():
    starts = np.arange(0, 86_400, 10.0)
    probabilities = np.zeros((len(starts), 2))
    probabilities[5_000, 1] = 0.9
    columns, edges = in_columns(starts, probabilities, 86_400.0)
    assert columns.shape == (800, 2)
    assert columns.max() == 0.9
    (at,) = np.flatnonzero(columns[:, 1])
    assert edges[at] <= 50_000 < edges[at + 1]
    for n in range(len(columns)):
        inside = (starts >= edges[n]) & (starts < edges[n + 1])
        assert (columns[n] == probabilities[inside].max(0)).all()


def test_a_time_without_windows_stays_empty():
    starts = np.concatenate([np.arange(0, 1_000.0), np.arange(5_000, 6_000.0)])
    columns, edges = in_columns(starts, np.ones((2_000, 1)), 6_000.0)
    empty = np.isnan(columns[:, 0])
    np.testing.assert_array_equal(empty, (edges[:-1] >= 1_000) & (edges[1:] <= 5_000))


def test_few_windows_are_drawn_as_they_are():
    starts = np.asarray([0.0, 10.0, 12.5])
    probabilities = np.asarray([[0.1], [0.2], [0.3]])
    columns, edges = in_columns(starts, probabilities, 22.5)
    np.testing.assert_array_equal(columns, probabilities)
    np.testing.assert_array_equal(edges, [0, 10, 12.5, 22.5])


@pytest.mark.parametrize(("n_class", "n_window"), [(2, 1), (30, 500)])
def test_names_and_hours(n_class, n_window):
    rng = np.random.default_rng(0)
    starts, classes = np.arange(n_window) * 30.0, [f"class ${i}$" for i in range(n_class)]
    probabilities = rng.random((n_window, n_class)) / 2
    probabilities[-1, -1] = 1
    figure = timeline_picture(starts, probabilities, classes, end=n_window * 30.0)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == min(n_class, 12)
    assert rf"class \${n_class - 1}\$" in names
    figure.draw_without_rendering()
    assert "0:00:00" in [label.get_text() for label in axes.get_xticklabels()]
    assert axes.get_title("left") == ("" if n_class == 2 else "the 12 of 30 classes with the largest probabilities")


@pytest.mark.parametrize(("end", "marks"), [(86_400.0, ["0:00:00", "3:00:00"]), (95.0, ["0:00:00", "0:00:15"])])
def test_marks_of_the_time_are_round(end, marks):
    figure = timeline_picture(np.asarray([0.0, end / 2]), np.zeros((2, 1)), ["a"], end=end)
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    # the first mark lies before the picture
    assert [label for label in labels if not label.startswith("-")][:2] == marks
