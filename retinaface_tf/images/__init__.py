"""Images in and out: reading any source, listing folders, video, saving. RGB uint8, upright."""
