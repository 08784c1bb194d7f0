"""What an evaluation looks like: plots, slices, studies of physics and hallucination, and the page that holds all."""
