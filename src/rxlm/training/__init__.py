"""The training curriculum: one module a stage, and the loop that runs them."""
