"""The command line: one small module a verb. Nothing else prints."""
