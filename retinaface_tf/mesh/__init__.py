"""The dense face: its topology, where its labels come from, and what is done with its vertices."""
