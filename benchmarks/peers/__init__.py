"""The parts of `benchmarks/peers.py`: who is measured, on what, how it is asked and what is drawn."""
