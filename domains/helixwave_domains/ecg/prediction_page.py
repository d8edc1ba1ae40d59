"""A prediction as a cardiologist looks at it: the ECG page with the labels and what the model looked at."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from helixwave_domains.ecg.paper import ecg_page
from helixwave_domains.ecg.predictor import Prediction, Predictor
from helixwave_domains.ecg.quality import LeadQuality
from helixwave_domains.ecg.saliency import Saliency, explain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_prediction(predictor: Predictor, prediction: Prediction, quality: Mapping[str, LeadQuality]) -> "Figure":
    """The page of a recording with its labels; of a long one the ten seconds that the model looked at most.

    Of a model of beats there is no band: what it looks at is the beat.
    """
    flags = [f"{lead}: {', '.join(found.flags)}" for lead, found in quality.items() if found.flags]
    ranked = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
    return ecg_page(
        prediction.recording,
        labels=ranked,
        present=prediction.present,
        flags=flags,
        saliency=None if prediction.seconds is None else likeliest_seen(predictor, prediction),
    )


def draw_timeline(prediction: Prediction) -> "Figure":
    """Probabilities along the whole recording."""
    from helixwave_domains.ecg.timeline_picture import timeline_picture

    end = prediction.recording.seconds
    return timeline_picture(prediction.starts, prediction.timeline, prediction.classes, end=end)


def likeliest_seen(predictor: Predictor, prediction: Prediction) -> Saliency:
    """What the model looked at for the likeliest label, in the window where this is likeliest."""
    label = int(prediction.values.argmax())
    start = prediction.starts[int(prediction.timeline[:, label].argmax())]
    prepared = predictor.prepared(prediction.recording)
    return explain(predictor.model, prepared, label, first=round(start * prepared.preprocessing.rate))
