"""Labels made by detectors: pseudo-labels, mesh labels, checks of them and sheets to look at."""
