"""Files that are whole or not there."""

import hashlib
import os
from pathlib import Path

from data.errors import UserError


def read_shipped(path: Path, sha256: str, otherwise: str) -> bytes:
    """The bytes of a file that came with the project, which have this digest (hex).

    Raises UserError where they have another one or cannot be read; `otherwise` says what to do then.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {otherwise}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(f"{path} has sha256 {found}, expected {sha256}; {otherwise}")
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the whole of it or nothing."""
    half = path.with_name(path.name + ".half")
    with half.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
