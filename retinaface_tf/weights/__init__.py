"""Weights files: which file a preset or runtime takes, pulling, reading, writing, converting."""
