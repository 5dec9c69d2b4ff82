"""Where a server keeps turns, memories and conversations, so that any process can go on with any of them."""
