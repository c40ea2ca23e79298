"""The trainer: one step, driven by Keras `fit` or by a loop over several workers."""
