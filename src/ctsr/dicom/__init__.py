"""DICOM: find, order, decode and write CT slices. Never imports torch."""
