"""From exams on disk to patches in memory: the split by patient, decoded series in a cache, and patches."""
