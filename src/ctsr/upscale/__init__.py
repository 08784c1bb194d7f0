"""A model applied to real series: DICOM in, valid DICOM out."""
