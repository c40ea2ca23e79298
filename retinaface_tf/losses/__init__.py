"""Losses in `keras.ops` only."""
