"""Video: files of any kind to clips, models of their frames, and series of what moves in them."""
