"""From an image to faces: preparing pixels, running the network, reading its outputs."""
