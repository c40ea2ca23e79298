"""Parts of `benchmarks/own_weights.py`."""
