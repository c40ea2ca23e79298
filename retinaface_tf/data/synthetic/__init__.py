"""Drawn images of faces with exact labels, to train and test on without a data set."""
