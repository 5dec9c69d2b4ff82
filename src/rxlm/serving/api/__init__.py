"""The interfaces of the server: OpenAI's responses, conversations and chat completions, and what is our own."""
