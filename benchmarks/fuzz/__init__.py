"""Parts of `benchmarks/fuzz_commands.py`."""
