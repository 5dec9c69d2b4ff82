"""The Reactive Transformer: encoder, decoder, the models made of them, generation and conversations."""
