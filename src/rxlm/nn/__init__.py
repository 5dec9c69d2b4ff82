"""Building blocks that know nothing of memory or conversations: attention, feed-forward, experts, cache."""
