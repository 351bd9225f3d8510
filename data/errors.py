"""The one error that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend.

    The message is one line that says what is wrong, where, with both values where two disagree,
    and the command or change that mends it. The CLI prints it and exits with 1; the page shows it.
    """


def first_line(error: BaseException) -> str:
    """What a library's error says, as a part of one line: its first line, else the error's name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(" .")
