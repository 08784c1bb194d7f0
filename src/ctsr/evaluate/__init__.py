"""A model against interpolation: rows per slice, summaries per patient, plots."""
