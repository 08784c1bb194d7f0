"""A network applied to whole slices."""
