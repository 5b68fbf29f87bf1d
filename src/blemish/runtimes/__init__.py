"""Images in, Prediction arrays out: one file per engine, each with the same `predict`."""
