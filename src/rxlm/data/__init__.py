"""Text, tokenizers and conversations: from a file on disk to a tensor, without any model."""
