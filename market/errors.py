"""The error of bad input: one line that names file, symbol, date or key."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is shown as it is, on one line, and the command ends with exit code 2. It names the
    file, symbol, date or configuration key and the value seen. A programming error is never one.
    """


class Refused(InputError):
    """Well-formed input that is not acted on, for reasons that the message names; exit code 3."""
