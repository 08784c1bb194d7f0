"""A synthetic exam set with known HU in known places, and the whole job run on it."""
