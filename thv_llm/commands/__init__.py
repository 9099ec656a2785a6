"""What can be typed, one subject a module; what each module offers is in `parser.Command`."""
