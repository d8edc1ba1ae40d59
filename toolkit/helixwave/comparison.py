"""Several backbones on one recipe, side by side: every run in a process of its own, then a table and a picture.

`python -m helixwave.comparison RUN` is such a process.
"""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from helixwave.errors import InputError, nearest
from helixwave.files import atomic_write
from helixwave.recipe import Recipe, check_recipe, choices, load_recipe
from helixwave.registry import BLOCKS, Config
from helixwave.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORM = "NAME or NAME:key=value, of a backbone or of blocks joined by +"


@dataclass(frozen=True)
class Run:
    """One backbone with one seed: where it lies and, once it is done, what came out.

    Args:
        label: the backbone as the user wrote it.
        failure: why there is no result.
    """

    label: str
    recipe: Recipe
    folder: RunFolder
    failure: str = ""

    @property
    def costs(self) -> Path:
        return self.folder.path / "costs.json"

    @property
    def finished(self) -> bool:
        return self.folder.report.is_file() and self.costs.is_file()

    @cached_property
    def results(self) -> dict[str, Any]:
        return json.loads(self.folder.results.read_text(encoding="utf-8"))

    @property
    def score(self) -> float:
        return self.results["test"][self.results["monitor"]]

    @cached_property
    def cost(self) -> dict[str, Any]:
        return json.loads(self.costs.read_text(encoding="utf-8"))

    @cached_property
    def by_length(self) -> dict[int, float]:
        """The score at each length, if the data source wrote `by_length.csv`."""
        path, metric = self.folder.path / "by_length.csv", self.results["monitor"]
        if not path.is_file():
            return {}
        with open(path, newline="", encoding="utf-8") as f:
            return {int(row["length"]): float(row[metric]) for row in csv.DictReader(f) if metric in row}


@dataclass
class Comparison:
    """Runs by backbone, in the order asked for.

    Args:
        command: what the user typed.
    """

    folder: Path
    command: str
    runs: list[Run] = field(default_factory=list)

    @property
    def done(self) -> list[Run]:
        return [run for run in self.runs if not run.failure]

    @property
    def lengths(self) -> list[int]:
        return sorted({length for run in self.done for length in run.by_length})

    def groups(self) -> Iterator[tuple[str, list[Run]]]:
        """Each backbone with its runs that have a result."""
        for label in dict.fromkeys(run.label for run in self.runs):
            yield label, [run for run in self.done if run.label == label]


def plan(recipe: str, overrides: list[str], backbones: str, n_seed: int, folder: Path) -> list[Run]:
    """All runs of a comparison, checked; nothing is written.

    Args:
        overrides: changes to the recipe that all runs share; the first seed may be among them.
        backbones: `mamba,deltanet:negative_eigenvalues=true,attention+swiglu`.

    Raises:
        InputError: a name or an argument that does not exist, with the nearest one.
    """
    for override in overrides:
        if override.lstrip("+").startswith(("backbone=", "backbone.blocks=")):
            raise InputError(f"{override}: each run has its own backbone. Put it into --backbones")
    if n_seed < 1:
        raise InputError(f"--seeds is {n_seed}, expected at least 1")
    labels = [label.strip() for label in backbones.split(",")]
    slugs = [re.sub(r"[^\w.=+-]+", "_", label) for label in labels]
    if not all(labels):
        raise InputError(f"--backbones {backbones}: an empty name, expected names with a comma between them")
    repeated = [label for label, slug in zip(labels, slugs, strict=True) if slugs.count(slug) > 1]
    if repeated:
        raise InputError(f"--backbones {backbones}: expected different names, got {repeated[0]!r} twice")
    base = load_recipe(recipe, overrides)
    if base.estimator is not None:
        raise InputError(f"{recipe}: its estimator has no backbone to exchange. Compare another recipe")
    runs = []
    for label, slug in zip(labels, slugs, strict=True):
        config = _with_backbone(base, overrides, label).config
        for seed in range(base.seed, base.seed + n_seed):
            seeded = check_recipe(base.name, {**config, "seed": seed})
            runs.append(Run(label, seeded, RunFolder(folder / "runs" / slug / f"seed_{seed}")))
    return runs


def prepare(runs: list[Run], *, overwrite: bool) -> None:
    """See that no folder is in the way of a run; take earlier runs away if that is asked for.

    Raises:
        InputError: a folder holds a run with other settings.
    """
    for run in runs:
        is_run = run.folder.recipe.is_file()
        if is_run and not overwrite and run.folder.read_recipe().config != run.recipe.config:
            raise InputError(
                f"{run.folder.path} holds a run with other settings. Add --overwrite or choose another --folder"
            )
        if not is_run and run.folder.path.exists() and any(run.folder.path.iterdir()):
            raise InputError(f"{run.folder.path} is not an empty folder. Choose another --folder")
    for run in runs if overwrite else []:
        if run.folder.path.exists():
            shutil.rmtree(run.folder.path)


def train(run: Run, say: Callable[[str], None]) -> Run:
    """The run with its result, or with the reason why there is none; what has been trained before is not trained again.

    Args:
        say: called with each line that the run prints.
    """
    if run.finished:
        return run
    if not run.folder.recipe.is_file():
        run.folder.create(run.recipe)
    errors = run.folder.path / "errors.txt"
    command = [sys.executable, "-m", "helixwave.comparison", str(run.folder.path)]
    with (
        open(errors, "w", encoding="utf-8") as f,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=f, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                say(line.rstrip())
        except BaseException:
            process.kill()
            raise
    return run if run.finished else Run(run.label, run.recipe, run.folder, _reason(process.returncode, errors))


def train_here(path: Path | str) -> None:
    """Train the run in a folder to its end and note what it took."""
    from helixwave.checkpoint import load
    from helixwave.train import run as run_recipe

    folder = RunFolder(path)
    recipe = folder.read_recipe()
    at_start = _peak_memory()
    run_recipe(recipe, folder)
    parameters = sum(parameter.numel() for parameter in load(folder.checkpoint).parameters())
    with atomic_write(folder.path / "costs.json") as f:
        costs = {"parameters": parameters, "memory_mib": _peak_memory(), "memory_at_start_mib": at_start}
        json.dump(costs, f, indent=2)
        f.write("\n")


def write(comparison: Comparison) -> None:
    """`comparison.csv`, one row a run; `comparison.md`, the table; `comparison.svg`, the picture."""
    with atomic_write(comparison.folder / "comparison.csv") as f:
        writer = csv.writer(f, lineterminator="\n")
        names = ["parameters", "cpu_seconds", "memory_mib", "memory_at_start_mib"]
        writer.writerow(["backbone", "seed", "score", *(f"at_{n}" for n in comparison.lengths), *names, "failure"])
        for run in comparison.runs:
            values: list[Any] = [""] * (1 + len(comparison.lengths) + len(names))
            if not run.failure:
                cost = {**run.cost, "cpu_seconds": round(run.results["cpu_seconds"], 1)}
                scores = [run.by_length.get(length, "") for length in comparison.lengths]
                values = [run.score, *scores, *(cost[name] for name in names)]
            writer.writerow([run.label, run.recipe.seed, *values, run.failure])
    with atomic_write(comparison.folder / "comparison.md") as f:
        f.write(_page(comparison))
    if comparison.done:
        with atomic_write(comparison.folder / "comparison.svg") as f:
            f.write(_svg(_figure(comparison)))


def table(comparison: Comparison) -> list[list[str]]:
    """The comparison as text, the head first: means over the seeds, and the lowest and the highest score."""
    done, lengths = comparison.done, comparison.lengths
    metric = done[0].results["monitor"] if done else "score"
    head = ["backbone", metric, "lowest–highest", *(f"at {n}" for n in lengths), "parameters", "cpu s", "memory MiB"]
    rows = [head]
    for label, runs in comparison.groups():
        if not runs:
            rows.append([label, "failed", *[""] * (len(head) - 2)])
            continue
        scores = [run.score for run in runs]
        at = [mean(run.by_length[n] for run in runs) for n in lengths]
        costs = [
            f"{runs[0].cost['parameters']:,}",
            f"{mean(run.results['cpu_seconds'] for run in runs):.0f}",
            f"{mean(run.cost['memory_mib'] for run in runs):.0f}",
        ]
        row = [label, f"{mean(scores):.3f}", f"{min(scores):.3f}–{max(scores):.3f}"]
        rows.append([*row, *(f"{score:.3f}" for score in at), *costs])
    baseline = done[0].results["baseline"] if done else None
    if baseline:
        rows.append(["(baseline)", f"{baseline[metric]:.3f}", *[""] * (len(head) - 2)])
    return rows


def notes(comparison: Comparison) -> list[str]:
    """What one has to know to read the table, and what went wrong."""
    lines = []
    if comparison.done:
        first = comparison.done[0]
        description = first.results["baseline_description"]
        lines += [f"Baseline: {description}."] if description else []
        lines.append(
            "cpu s: all training epochs with their validation. memory: the most that a run's process held; "
            f"{mean(run.cost['memory_at_start_mib'] for run in comparison.done):.0f} MiB of it the program itself."
        )
    if comparison.lengths:
        lines.append("at N: the score on sequences of length N.")
    lines += [f"{run.label}, seed {run.recipe.seed}, failed: {run.failure}" for run in comparison.runs if run.failure]
    return lines


def _with_backbone(base: Recipe, overrides: list[str], label: str) -> Recipe:
    """The recipe with the backbone that `label` names: a shipped one, or blocks in the recipe's width and depth."""
    parts = [_read_part(label, part) for part in label.split("+")]
    kinds = {_kind(label, kind, name) for kind, name, _ in parts}
    if kinds == {"block"}:
        config = deepcopy(base.config)
        config["backbone"]["blocks"] = [{"name": name, **_values(label, settings)} for _, name, settings in parts]
        return check_recipe(base.name, config)
    if len(parts) > 1:
        raise InputError(f"--backbones {label}: only blocks can be joined by +")
    ((_, name, settings),) = parts
    return load_recipe(base.name, [*overrides, f"backbone={name}", *(f"backbone.{setting}" for setting in settings)])


def _read_part(label: str, part: str) -> tuple[str, str, list[str]]:
    """Kind, name and settings of `kind/name:key=value:...`."""
    path, *settings = part.split(":")
    kind, _, name = path.rpartition("/")
    if not name or kind not in {"", "block", "backbone"} or not all(re.match(r"[\w.]+=.", s) for s in settings):
        raise InputError(f"--backbones {label}: cannot read {part!r}. Expected {_FORM}")
    return kind, name, settings


def _kind(label: str, kind: str, name: str) -> str:
    """Whether a name is that of a backbone or of a block."""
    known: dict[str, Sequence[str]] = {"backbone": choices()["backbone"], "block": list(BLOCKS)}
    found = [group for group, names in known.items() if name in names and kind in {"", group}]
    if not found:
        among = known[kind] if kind else {*known["block"], *known["backbone"]}
        raise InputError(
            f"--backbones {label}: no {kind or 'backbone or block'} named {name!r}. {nearest(name, among)}"
        )
    if len(found) > 1:
        raise InputError(
            f"--backbones {label}: {name} is a shipped backbone and a block. Write backbone/{name} or block/{name}"
        )
    return found[0]


def _values(label: str, settings: list[str]) -> Config:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist(settings))  # type: ignore[return-value]
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"--backbones {label}: cannot read {':'.join(settings)}. Expected {_FORM}") from error


def _reason(code: int, errors: Path) -> str:
    """Why a run's process ended without a result."""
    lines = [line.strip() for line in errors.read_text(encoding="utf-8").splitlines() if line.strip()]
    if code < 0:
        return f"ended by signal {-code}" + ", as when memory runs out" * (code == -9)
    return lines[-1] if lines else f"ended with code {code}"


def _page(comparison: Comparison) -> str:
    head, *rows = table(comparison)
    lines = [
        f"# {comparison.runs[0].recipe.name}: backbones side by side",
        "",
        f"    {comparison.command}",
        "",
        f"| {' | '.join(head)} |",
        f"|---|{'---:|' * (len(head) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        *(["", "![scores](comparison.svg)"] if comparison.done else []),
        *(line for note in notes(comparison) for line in ("", note)),
    ]
    return "\n".join(lines) + "\n"


def _figure(comparison: Comparison) -> "Figure":
    """A bar a backbone with a dot a seed; beside it, if the data have lengths, the score over the length."""
    from matplotlib.figure import Figure

    groups = [(label, runs) for label, runs in comparison.groups() if runs]
    lengths, metric = comparison.lengths, groups[0][1][0].results["monitor"]
    figure = Figure(figsize=(9 if lengths else 5.5, 1.2 + 0.3 * max(len(groups), 5 if lengths else 1)))
    axes = figure.subplots(1, 2 if lengths else 1, squeeze=False)[0]
    for place, (label, runs) in enumerate(groups):
        scores = [run.score for run in runs]
        colour = f"C{place % 10}"
        axes[0].barh(place, mean(scores), color=colour, alpha=0.4)
        axes[0].plot(scores, [place] * len(scores), ".", color=colour)
        if lengths:
            at = [[run.by_length[n] for run in runs] for n in lengths]
            axes[1].plot(lengths, [mean(s) for s in at], color=colour, marker=".", label=_plain(label), linewidth=1.2)
            axes[1].fill_between(lengths, [min(s) for s in at], [max(s) for s in at], color=colour, alpha=0.15)
    baseline = groups[0][1][0].results["baseline"]
    if baseline:
        axes[0].axvline(baseline[metric], color="0.5", linestyle="--", linewidth=0.8)
    axes[0].set_yticks(range(len(groups)), [_plain(label) for label, _ in groups])
    axes[0].invert_yaxis()
    axes[0].set(xlabel=f"test {metric}" + ", dashed: baseline" * bool(baseline))
    if lengths:
        axes[1].set_xscale("log", base=2)
        axes[1].set_xticks(lengths, [str(n) for n in lengths])
        axes[1].set(xlabel="length", ylabel=metric)
    figure.tight_layout()
    return figure


def _plain(label: str) -> str:
    """A label over several lines, without what matplotlib reads as a formula."""
    return label.replace("$", r"\$").replace(":", ":\n")


def _svg(figure: "Figure") -> str:
    """A picture whose text stays text, the same for the same numbers."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "helixwave"}):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return text.getvalue()


def _peak_memory() -> float:
    """The most memory that this process has held, in MiB."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    # kilobytes on Linux, bytes on macOS
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def _end_with_parent() -> None:
    """Whatever ends the command closes this pipe; a run alone would go on unseen."""
    # not sys.stdin: its lock would be held when the interpreter ends
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        train_here(sys.argv[1])
    except InputError as error:
        sys.exit(" ".join(str(error).split()))
