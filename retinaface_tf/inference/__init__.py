"""From a picture to faces: preparing pixels, running the network, reading its outputs."""
