"""Retained memory: a conversation keeps the keys and values of the tokens that it will need."""
