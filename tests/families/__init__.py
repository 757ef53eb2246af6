"""Networks of every family that relevance is tried on, real ones where they install."""
