"""The verbs of the command line, one module each: `SUMMARY`, `EXAMPLES`, `add_arguments`, `run`."""
