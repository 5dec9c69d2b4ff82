"""The short-term memory of a conversation: its state, its gates and the network that updates it."""
