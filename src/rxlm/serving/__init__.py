"""A server of stored conversations: OpenAI's interfaces over memories that are values."""
