"""The command line: one small module a verb. The only room that prints."""
