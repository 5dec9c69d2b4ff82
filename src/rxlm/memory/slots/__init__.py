"""The papers' memory: slots that a network with gates rewrites after each turn."""
