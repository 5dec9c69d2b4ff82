"""A pretrained chat model becomes a Reactive Transformer."""
