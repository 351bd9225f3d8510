"""The one error that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend.

    The message is one line that says what is wrong, where, with both values where two disagree,
    and the command or change that mends it. The CLI prints it and exits with 1; the page shows it.
    """
