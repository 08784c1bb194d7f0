"""A synthetic CT exam set: computed anatomy with known HU at known positions, written as DICOM."""
