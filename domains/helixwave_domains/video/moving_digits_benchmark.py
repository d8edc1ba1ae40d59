"""`python -m helixwave_domains.video.moving_digits_benchmark`: moving digits by ConvS5 and ConvLSTM, in equal time.

Both are trained by the recipe `video/moving_digits`, on one thread: ConvS5 for the epochs of the recipe, and ConvLSTM,
of the same width with as many layers between the same encoder and decoder, for as many epochs as take the same cpu
time, its learning rate falling over just these. The weights with the best PSNR on the validation split are judged on
the test split, by which nothing was chosen. Both have the recipe's learning rate, which was chosen for ConvS5 on the
validation split. A black canvas, and the last frame again and again, need no training.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from helixwave import side_by_side
from helixwave.recipe import Recipe, check_recipe, load_recipe
from helixwave.registry import DATA, Config
from helixwave.results import Results
from helixwave.run_folder import RunFolder
from helixwave.train import run
from helixwave_kernels.bench.report import markdown

from helixwave_domains.video.frame_baselines import CopyLastFrame
from helixwave_domains.video.frame_scores import FrameScores

RECIPE = "video/moving_digits"
HORIZONS = (10, 20, 40)
# what both models take, and have alike
_SHARED = ("d_model", "n_layer", "patch", "reach")


class Row(NamedTuple):
    """A contender's scores on the test split; the cpu seconds and epochs of its training, if it has any."""

    name: str
    scores: dict[str, float]
    seconds: float = 0.0
    epochs: int = 0


def measure(recipe: Recipe, folder: Path) -> list[Row]:
    """All contenders, with their runs in `folder`."""
    ours = trained(recipe, folder / "conv_s5")
    model = recipe.config["model"]
    peer = changed(recipe, model={"name": "conv_lstm", **{key: model[key] for key in _SHARED if key in model}})
    data = {**recipe.config["data"], "n_test": 1}
    one = trained(changed(peer, data=data, trainer=_epochs(recipe, 1)), folder / "one_epoch").cpu_seconds
    longer = max(1, round(ours.cpu_seconds / one))
    other = trained(changed(peer, trainer=_epochs(recipe, longer)), folder / "conv_lstm")
    return [
        Row("ConvS5", ours.model, ours.cpu_seconds, recipe.trainer.max_epochs),
        Row("ConvLSTM", other.model, other.cpu_seconds, longer),
        *untrained(recipe),
    ]


def trained(recipe: Recipe, place: Path) -> Results:
    """A run of a recipe."""
    folder = RunFolder(place)
    folder.create(recipe)
    return run(recipe, folder)


def untrained(recipe: Recipe) -> list[Row]:
    """A black canvas, and the last frame that is given."""
    copied, target = CopyLastFrame().predict(DATA.build(recipe.config["data"]))
    rows = []
    for name, frames in (("last frame", copied), ("black canvas", torch.zeros_like(target))):
        scores = FrameScores([*HORIZONS])
        scores.update(frames, target)
        rows.append(Row(name, {key: float(value) for key, value in scores.compute().items()}))
    return rows


def changed(recipe: Recipe, **sections: Config) -> Recipe:
    """A recipe with other sections."""
    return check_recipe(recipe.name, {**recipe.config, **sections})


def table(rows: Sequence[Row]) -> str:
    """Scores at each horizon as Markdown."""
    names = [f"{name}_{n}" for n in HORIZONS for name in ("psnr", "ssim")]
    lines = [
        [
            row.name,
            f"{row.seconds:.0f} s" if row.epochs else "",
            str(row.epochs or ""),
            *(f"{row.scores[name]:.3f}" if name.startswith("ssim") else f"{row.scores[name]:.2f}" for name in names),
        ]
        for row in rows
    ]
    titles = [f"{'PSNR' if name.startswith('psnr') else 'SSIM'} at {name.split('_')[1]}" for name in names]
    return markdown(["", "cpu time of training", "epochs", *titles], lines)


def page(rows: Sequence[Row], command: str) -> str:
    """The table as Markdown, with the machine."""
    legend = (
        "PSNR in dB and SSIM of the tenth, twentieth and fortieth predicted frame, means over the clips of the test\n"
        "split.\n"
    )
    return side_by_side.page("Moving digits, measured", __doc__, command, f"{table(rows)}\n{legend}")


def _epochs(recipe: Recipe, n: int) -> Config:
    return {**recipe.config["trainer"], "max_epochs": n}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, print, and write the page."""
    name = "helixwave_domains.video.moving_digits_benchmark"
    parser = side_by_side.parser(name, __doc__)
    parser.add_argument("overrides", nargs="*", help="of the recipe, key=value")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(load_recipe(RECIPE, arguments.overrides), Path(folder))
    asked = [*arguments.overrides, *([f"--report {arguments.report}"] if arguments.report else [])]
    side_by_side.publish(page(rows, " ".join([f"python -m {name}", *asked])), arguments.report)


if __name__ == "__main__":
    main()
