"""Predict ECG files with a trained model from Python: print the probabilities, draw an ECG-paper page here.

    python examples/ecg_inference.py CHECKPOINT FILE [FILE ...]

A file may be WFDB, EDF, DICOM, HL7 aECG, Philips XML, GE MUSE XML, CSV, NumPy or Parquet. A checkpoint is the folder of
a run: `helixwave train ecg/simulated` makes one.
"""

import sys
from pathlib import Path

from helixwave.errors import InputError
from helixwave_domains.ecg.paper import save_page
from helixwave_domains.ecg.prediction_page import draw_prediction
from helixwave_domains.ecg.predictor import Predictor
from helixwave_domains.ecg.quality import assess


def main(checkpoint: str, *files: str) -> int:
    """The number of files that could not be predicted."""
    # another sampling rate is resampled and missing leads are read as zeros only because it is said here
    predictor = Predictor.load(checkpoint, resample=True, missing_leads="zero")
    failed = 0
    for file in files:
        try:
            prediction = predictor.predict(file)
        except InputError as error:
            print(error, file=sys.stderr)
            failed += 1
            continue
        print(f"{file}: {', '.join(prediction.present) or 'nothing above its threshold'}")
        for name, probability in prediction.probabilities.items():
            print(f"  {name:40} {probability:.3f}")
        for note in (*prediction.recording.notes, *prediction.notes):
            print(f"  note: {note}")
        figure = draw_prediction(predictor, prediction, assess(prediction.recording))
        page = Path(f"{Path(file).stem}.pdf")
        save_page(figure, page)
        print(f"  page: {page}")
    return failed


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]) > 0)
