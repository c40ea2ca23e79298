"""Measures of detectors: WIDER FACE, FDDB, landmarks, verification, and the reports of them."""
