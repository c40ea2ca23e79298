"""Where trained weights come from: one class for each kind of source, see `source.WeightsSource`."""
