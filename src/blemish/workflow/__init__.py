"""The operations on models: fit, evaluate, and update, which adds normal images or forgets a defect."""
