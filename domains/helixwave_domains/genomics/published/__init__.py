"""Published models of DNA, for `helixwave.load_pretrained`."""
