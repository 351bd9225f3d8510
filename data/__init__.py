"""Papers and contexts, before any model sees them."""
