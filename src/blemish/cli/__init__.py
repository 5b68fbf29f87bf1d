"""The command line: one file per command; large packages are imported only when a command runs."""
