"""How well scores and anomaly maps agree with the truth: ranking, overlap, and their streaming evaluation."""
