"""Published models of video, for `helixwave.load_pretrained`."""
