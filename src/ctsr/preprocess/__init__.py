"""Every series resampled in plane to one pixel spacing, as valid DICOM."""
