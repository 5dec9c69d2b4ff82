"""Stage 6: learning from what people preferred."""
