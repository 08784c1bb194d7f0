"""The command line: modules of related commands. Nothing else prints."""
