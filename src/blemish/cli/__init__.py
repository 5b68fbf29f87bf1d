"""The command line: one short file per command; heavy packages are imported only when a command runs."""
