"""From exams on disk to patches in memory: the split, the store, the patches drawn from it."""
