"""The command line. Results go to stdout, bars and logs to stderr."""
