"""Stage 5: memory reinforcement learning."""
