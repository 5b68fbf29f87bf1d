"""From an anomaly map to findings: the defect mask and its regions."""
