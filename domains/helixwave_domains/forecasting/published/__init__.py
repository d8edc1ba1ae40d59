"""Published models of time series, for `helixwave.load_pretrained`."""
