"""What `helixwave ecg predict` asks of every recording."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from helixwave import __version__
from helixwave.file_rows import Job, Row, weights_digest

from helixwave_domains.ecg.formats import Declared
from helixwave_domains.ecg.paper import save_page
from helixwave_domains.ecg.prediction_page import draw_prediction, draw_timeline
from helixwave_domains.ecg.prediction_rows import columns, row_of, write_challenge, write_timeline
from helixwave_domains.ecg.predictor import Predictor, Serving
from helixwave_domains.ecg.quality import assess

# seconds from which on a recording has a picture of its whole time too
_LONG = 60


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
    """

    checkpoint: Path
    serving: Serving
    declared: Declared
    folder: Path
    json: bool = False
    challenge: bool = False
    plot: Literal["png", "pdf", "svg"] | None = None
    table: ClassVar[str] = "predictions"

    def manifest(self) -> dict[str, Any]:
        """What has to be the same for a run that goes on."""
        return {
            "helixwave": __version__,
            "checkpoint": {"path": str(self.checkpoint), "sha256": weights_digest(self.checkpoint)},
            "serving": asdict(self.serving),
            "declared": asdict(self.declared),
            "outputs": {"json": self.json, "challenge": self.challenge, "plot": self.plot},
        }

    def worker(self, threads: int | None) -> tuple[list[str], Callable[[Job], Row]]:
        """Columns of the table, and what predicts a file."""
        predictor = Predictor.load(self.checkpoint, **asdict(self.serving))
        return columns(predictor.classes), lambda job: self._predict(predictor, job)

    def _predict(self, predictor: Predictor, job: Job) -> Row:
        prediction = predictor.predict(job.path, self.declared)
        quality = assess(prediction.recording)
        if len(prediction.starts) > 1:
            write_timeline(prediction, self.folder / "timelines" / f"{job.name}.tsv")
        if self.challenge:
            write_challenge(prediction, job.name, self.folder / "challenge" / f"{job.name}.csv")
        if self.plot:
            pages = self.folder / "pages"
            save_page(draw_prediction(predictor, prediction, quality), pages / f"{job.name}.{self.plot}")
            if prediction.recording.seconds > _LONG:
                save_page(draw_timeline(prediction), pages / f"{job.name}_timeline.{self.plot}")
        return row_of(job.path, prediction, quality)
