import json
import platform
import re
from importlib.metadata import version

import numpy as np
import pytest
from helixwave.data import Picture
from helixwave.pictures import as_png, as_svg, class_curves, confusion_picture, learning_curves, roc_picture
from helixwave.recipe import Recipe, load_recipe, to_yaml
from helixwave.report import write_report
from helixwave.results import Results, write_results
from helixwave.run_folder import RunFolder
from matplotlib.figure import Figure
from torch import nn

EVIL = "<script>alert('x')</script>"
CONFIG = load_recipe("genomics/annotate").config
HISTORY = [{"epoch": i, "train_loss": 1 / (i + 1), "val_loss": 1.0, "val_accuracy": 0.5} for i in range(3)]
# what makes a browser fetch something, unless it is data or a place in the page itself
FETCHED = re.compile(
    r"""(?:\b(?:src|href|srcset|data|action|poster)\s*=\s*["']|url\(\s*["']?|@import\s+)(?!data:|\#)"""
)


def pictures(classes):
    rng = np.random.default_rng(0)
    truth, p = rng.integers(0, len(classes), 50), rng.random((50, len(classes)))
    curves = class_curves(truth, p, classes)
    return [confusion_picture(truth, p, classes), roc_picture(curves), learning_curves(HISTORY, "accuracy")]


def results(score, baseline):
    scores = {"accuracy": baseline, "mcc": 0.1234} if baseline is not None else None
    return Results("accuracy", "max", {"accuracy": score, "mcc": 0.5432}, scores, "counting <b>", HISTORY[1], 12.0)


def page(path, *, name="genomics/annotate", config=CONFIG, score=0.9, baseline=0.8, drawn=(), data=None):
    recipe = Recipe(name, config)
    write_report(path, recipe, results(score, baseline), data or {}, list(drawn), nn.Linear(30, 50))
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return page(
        tmp_path_factory.mktemp("report") / "report.html",
        drawn=pictures(["a", "b", "c"]),
        data={"test": "9 blocks", "ambiguous": 4},
    )


def test_animation_stands_below_its_figure(tmp_path):
    moving = Picture("Moving", "A dot.", Figure(), frames=np.eye(4, dtype=np.uint8).reshape(4, 2, 2) * 255)
    text = page(tmp_path / "report.html", drawn=[moving])
    assert FETCHED.findall(text) == []
    assert (
        len(re.findall(r'</svg>\s*<img src="data:image/png;base64,[^"]+" alt="Moving, moving"><figcaption>A dot', text))
        == 1
    )


def test_page_stands_alone(plain):
    assert plain.startswith("<!doctype html>")
    assert plain.count("<svg") == 3
    assert FETCHED.findall(plain) == []
    assert "<script" not in plain
    assert "<link" not in plain
    # numbers of SVG marks that are used must stand in the page
    assert set(re.findall(r'href="#([^"]+)"', plain)) <= set(re.findall(r'id="([^"]+)"', plain))


@pytest.mark.parametrize("bad", ['<img src="http://x/y.png">', "<a href='other.html'>", "<i style='x: url(y.png)'>"])
def test_the_search_for_outside_files_finds_them(bad):
    assert FETCHED.search(bad)
    assert not FETCHED.search('<use xlink:href="#p1"/><img src="data:image/png;base64,AA">')


@pytest.mark.parametrize(
    "shown",
    [
        *["genomics/annotate", "seed 0", "1,550 parameters", "0.9000", "0.8000", "+0.1000", "0.5432", "0.1234"],
        *["+0.4198", "counting &lt;b&gt;", "9 blocks", "<td>ambiguous</td><td>4</td>", "reading_frame_annotator"],
        *["Confusion matrix", "Receiver operating characteristic", "Learning curves"],
    ],
)
def test_page_shows(plain, shown):
    assert shown in plain


def test_page_shows_the_recipe_and_the_versions(plain):
    text = re.search(r"<pre>(.*?)</pre>", plain, re.DOTALL)[1]
    assert text.strip() == to_yaml(CONFIG).replace("'", "&#39;").strip()
    for name in ("helixwave", "torch", "lightning", "numpy"):
        assert f"<td>{name}</td><td>{version(name)}</td>" in plain
    assert platform.python_version() in plain


@pytest.mark.parametrize(
    ("score", "baseline", "verdict", "better"),
    [
        (0.9, 0.8, "The model beats its baseline: test accuracy 0.9000 against 0.8000 (+0.1000).", True),
        (0.7, 0.8, "The model does not beat its baseline: test accuracy 0.7000 against 0.8000 (-0.1000).", False),
        (0.8, 0.8, "The model does not beat its baseline", False),
        (float("nan"), 0.8, "The model does not beat its baseline", False),
        (0.7, None, "Test accuracy 0.7000; no baseline was asked for.", True),
    ],
)
def test_verdict(tmp_path, score, baseline, verdict, better):
    found = results(score, baseline)
    assert found.verdict.startswith(verdict)
    assert found.better == better
    text = page(tmp_path / "report.html", score=score, baseline=baseline)
    assert re.search(r'class="verdict">(.*?)</p>', text)[1] == found.verdict
    assert ("<th>baseline</th>" in text) == (baseline is not None)


def test_names_cannot_become_markup(tmp_path):
    config = {**CONFIG, "data": {"name": "x", "genome": EVIL}}
    classes = [EVIL, "--><b>&", "]]></svg><b>"]
    text = page(tmp_path / "r.html", name=EVIL, config=config, drawn=pictures(classes), data={EVIL: EVIL})
    assert "<script" not in text
    assert "<b>" not in text
    assert text.count("</svg>") == text.count("<svg") == 3
    assert text.count("&lt;script&gt;") >= 5


@pytest.mark.parametrize("classes", [["a$x^$", r"\frac$_$"], ["_hidden", "_too"], ["$", "b"]], ids=str)
def test_class_names_are_shown_letter_by_letter(classes):
    confusion, roc, _ = pictures(classes)
    shown = [label.get_text().replace(r"\$", "$") for label in confusion.figure.axes[0].get_xticklabels()]
    assert shown == classes
    (curve,) = roc.figure.axes[0].get_legend().get_texts()
    assert curve.get_text().replace(r"\$", "$").endswith(classes[1])
    for picture in (confusion, roc):
        assert as_svg(picture.figure).startswith("<svg")


def test_png_is_a_data_url():
    assert as_png(learning_curves(HISTORY, "accuracy").figure).startswith("data:image/png;base64,iVBOR")


def test_roc_of_many_points_is_thinned():
    rng = np.random.default_rng(0)
    truth, p = rng.integers(0, 2, 5000), rng.random((5000, 2))
    curve = roc_picture(class_curves(truth, p, ["a", "b"])).figure.axes[0].lines[0].get_xydata()
    assert len(curve) <= 400
    assert (curve[0].tolist(), curve[-1].tolist()) == ([0, 0], [1, 1])


def test_results_are_written_with_card_and_report(tmp_path):
    folder, recipe = RunFolder(tmp_path), Recipe("genomics/annotate", CONFIG)
    write_results(folder, recipe, results(0.9, 0.8), {"test": "9 blocks"}, [], nn.Linear(2, 2))
    facts = json.loads(folder.results.read_text())
    assert facts["test"] == {"accuracy": 0.9, "mcc": 0.5432}
    assert facts["baseline"]["accuracy"] == 0.8
    assert facts["data"] == {"test": "9 blocks"}
    card = (folder.checkpoint / "card.md").read_text()
    assert "The model beats its baseline" in card
    assert "| accuracy | 0.9000 |" in card
    assert folder.report.is_file()
