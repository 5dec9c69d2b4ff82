"""The seven reports: what the answers, the probabilities and the clock say about a model."""
