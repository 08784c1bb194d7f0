"""A DICOM node: receives series by C-STORE, upscales them and sends the results to an archive."""
