"""CT super-resolution, from DICOM to DICOM."""

__version__ = "0.1.0"
