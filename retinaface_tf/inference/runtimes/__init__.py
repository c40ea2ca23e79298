"""Runtimes: whatever can turn a batch of pixels into the network's raw outputs."""
