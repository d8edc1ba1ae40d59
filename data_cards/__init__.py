"""One page per data set: the loader reads what the person reads."""
