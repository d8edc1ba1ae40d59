"""ECG: files of any kind to one recording, models of its leads, and what a cardiologist looks at."""
