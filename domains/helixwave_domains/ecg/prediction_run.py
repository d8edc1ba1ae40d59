"""Many recordings in one or several processes: every file leaves a row, and a run that was stopped goes on."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from helixwave import __version__
from helixwave.checkpoint import find_checkpoint
from helixwave.console import console
from helixwave.errors import InputError
from helixwave.files import atomic_write, disk_errors
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from helixwave_domains.ecg.formats import Declared
from helixwave_domains.ecg.paper import save_page
from helixwave_domains.ecg.prediction_page import draw_prediction, draw_timeline
from helixwave_domains.ecg.prediction_rows import (
    Row,
    columns,
    failed_row,
    json_line,
    row_of,
    table_line,
    write_challenge,
    write_timeline,
)
from helixwave_domains.ecg.predictor import Predictor, Serving
from helixwave_domains.ecg.quality import assess

# seconds from which on a recording has a picture of its whole time too
_LONG = 60
# files that are handed to the processes at a time
_HANDED = 256


@dataclass(frozen=True)
class Request:
    """What is asked of every recording.

    Args:
        checkpoint: of the model.
        serving: how recordings are served that are not as the model has them.
        declared: what files do not say of themselves.
        folder: for the results.
        json: also a JSON object for each recording.
        challenge: also a file for each in the form of the PhysioNet/CinC challenges.
        plot: also a page of ECG paper for each, in this format.
        threads: of torch in each process.
    """

    checkpoint: Path
    serving: Serving
    declared: Declared
    folder: Path
    json: bool = False
    challenge: bool = False
    plot: Literal["png", "pdf", "svg"] | None = None
    threads: int | None = None

    def manifest(self) -> dict[str, Any]:
        """What has to be the same for a run that goes on."""
        # two trainings of one model differ in their weights alone
        with (find_checkpoint(self.checkpoint) / "model.safetensors").open("rb") as weights:
            digest = hashlib.file_digest(weights, "sha256").hexdigest()
        return {
            "helixwave": __version__,
            "checkpoint": {"path": str(self.checkpoint), "sha256": digest},
            "serving": asdict(self.serving),
            "declared": asdict(self.declared),
            "outputs": {"json": self.json, "challenge": self.challenge, "plot": self.plot},
        }


@dataclass(frozen=True)
class Job:
    """A file and what its results are called."""

    path: Path
    name: str


class Worker:
    """Predicts file by file, in a process of its own or in this one."""

    def __init__(self, request: Request):
        import torch

        if request.threads:
            torch.set_num_threads(request.threads)
        self.request = request
        self.predictor = Predictor.load(request.checkpoint, **asdict(request.serving))

    def __call__(self, job: Job) -> Row:
        """The row of a file; whatever goes wrong with it stands there."""
        try:
            return self._predict(job)
        except (InputError, OSError) as error:
            return failed_row(job.path, str(error))
        except Exception as error:
            # a million files hold what no reader was written for, and the next one may be fine
            return failed_row(job.path, f"{job.path}: {type(error).__name__}: {error}")

    def _predict(self, job: Job) -> Row:
        request = self.request
        prediction = self.predictor.predict(job.path, request.declared)
        quality = assess(prediction.recording)
        if len(prediction.starts) > 1:
            write_timeline(prediction, request.folder / "timelines" / f"{job.name}.tsv")
        if request.challenge:
            write_challenge(prediction, job.name, request.folder / "challenge" / f"{job.name}.csv")
        if request.plot:
            pages = request.folder / "pages"
            save_page(draw_prediction(self.predictor, prediction, quality), pages / f"{job.name}.{request.plot}")
            if prediction.recording.seconds > _LONG:
                save_page(draw_timeline(prediction), pages / f"{job.name}_timeline.{request.plot}")
        return row_of(job.path, prediction, quality)


_worker: Worker


def _start(request: Request) -> None:
    global _worker
    _worker = Worker(request)


def _work(job: Job) -> Row:
    return _worker(job)


def run(request: Request, paths: Sequence[Path], *, workers: int, resume: bool, overwrite: bool) -> Counter[str]:
    """Predict all files; the table grows row by row.

    Args:
        paths: of the recordings.
        workers: processes; with one, this one does the work.
        resume: go on where an earlier run of the same request was stopped.
        overwrite: replace what is there.

    Returns:
        how many rows have which status, those of the earlier run included.

    Raises:
        InputError: results are there already, or they are another request's.
    """
    # a checkpoint that cannot be read is no matter of the files
    worker = Worker(request)
    table = _Table(request, columns(worker.predictor.classes))
    done = table.begin(resume=resume, overwrite=overwrite)
    jobs = [job for job in named(paths) if str(job.path) not in done]
    statuses = Counter(done.values())
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("recordings", total=len(jobs) + len(done), completed=len(done))
        with table.open(), closing(_rows(worker, request, jobs, workers)) as rows:
            for row in rows:
                table.add(row)
                statuses[str(row.cells["status"])] += 1
                progress.advance(task)
    return statuses


def named(paths: Sequence[Path]) -> list[Job]:
    """Files with names for their results, no two the same: the stem, with folders before it where two share it."""
    count = Counter(path.stem for path in paths)
    names: Counter[str] = Counter()
    jobs = []
    for path in paths:
        name = path.stem if count[path.stem] == 1 else "_".join([*path.parts[-3:-1], path.name]).replace("/", "")
        names[name] += 1
        jobs.append(Job(path, name if names[name] == 1 else f"{name}_{names[name]}"))
    return jobs


def _rows(worker: Worker, request: Request, jobs: Sequence[Job], workers: int) -> Generator[Row, None, None]:
    """Rows in the order of the files."""
    if workers == 1:
        yield from map(worker, jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (request,)) as pool:
        for first in range(0, len(jobs), _HANDED):
            yield from pool.map(_work, jobs[first : first + _HANDED])


class _Table:
    """`predictions.csv` and, if asked for, `predictions.jsonl`, written row by row."""

    def __init__(self, request: Request, names: list[str]):
        self.request, self.names = request, names
        self.csv, self.json = request.folder / "predictions.csv", request.folder / "predictions.jsonl"
        self.manifest = request.folder / "manifest.json"

    def begin(self, *, resume: bool, overwrite: bool) -> dict[str, str]:
        """Make the files, or find those of an earlier run; the status of each file that has a row."""
        if self.request.folder.is_file():
            raise InputError(
                f"{self.request.folder}: a file, expected a folder for the results. Choose another --output"
            )
        manifest = json.loads(json.dumps(self.request.manifest()))
        if self.csv.exists() and not overwrite:
            if not resume:
                raise InputError(f"{self.csv} is there already. Choose another --output, or --resume or --overwrite")
            if not self.manifest.exists() or json.loads(self.manifest.read_text(encoding="utf-8")) != manifest:
                raise InputError(
                    f"{self.csv} was begun with other options or another checkpoint. Use the same, or --overwrite"
                )
            return self._rows_there()
        with disk_errors(self.csv):
            self.request.folder.mkdir(parents=True, exist_ok=True)
            self.json.unlink(missing_ok=True)
        with atomic_write(self.csv) as f:
            csv.writer(f, lineterminator="\n").writerow(self.names)
        with atomic_write(self.manifest) as f:
            json.dump(manifest, f, indent=2)
        return {}

    def _rows_there(self) -> dict[str, str]:
        """Whole rows stay; what was cut off in the middle of a line, or has no row in the table, is taken away."""
        whole = self.csv.read_bytes().rpartition(b"\n")
        with atomic_write(self.csv, "wb") as f:
            f.write(whole[0] + whole[1])
        with self.csv.open(encoding="utf-8", newline="") as rows:
            done = {row["file"]: row["status"] for row in csv.DictReader(rows)}
        if self.request.json and self.json.exists():
            kept = [line for line in self._json_lines() if json.loads(line)["file"] in done]
            with atomic_write(self.json) as f:
                f.writelines(kept)
        return done

    def _json_lines(self) -> list[str]:
        lines = self.json.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Files that `add` writes to."""
        with disk_errors(self.csv), ExitStack() as files:
            self._json = files.enter_context(self.json.open("a", encoding="utf-8")) if self.request.json else None
            self._csv = files.enter_context(self.csv.open("a", encoding="utf-8", newline=""))
            yield

    def add(self, row: Row) -> None:
        """One more row. The table has it last, so that what stands there is complete."""
        if self._json is not None:
            self._json.write(json_line(row))
            self._json.flush()
        self._csv.write(table_line(row, self.names))
        self._csv.flush()
