"""Metrics of scores and anomaly maps against labels and masks: ranking, overlap, and streaming evaluation."""
