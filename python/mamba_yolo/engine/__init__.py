"""Training, validation and prediction: one verb per file."""
