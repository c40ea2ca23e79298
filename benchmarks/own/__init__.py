"""Parts of `benchmarks/own_weights.py` and `benchmarks/own_ablation.py`."""
