"""Mutated files: a right value or one line, never a traceback, a hang or a silent wrong value."""
