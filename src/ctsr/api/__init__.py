"""The Python API: the functions that `import ctsr` offers, in modules that are imported when one of them is used."""
