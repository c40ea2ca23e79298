"""Training data: readers, checks, synthetic faces and the in-graph pipeline."""
