"""Files that go with a question."""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import InvalidOptionError

#: No context holds more than a small part of it.
MAX_BYTES = 1 << 20


def read_attachment(name: str) -> str:
    """Return a text file as part of a message, fenced, with its name.

    Raises:
        InvalidOptionError: it is no regular file, too large, or not text.
    """
    path = Path(name).expanduser()
    try:
        if not path.is_file():
            raise InvalidOptionError(f"{path}: no such file", hint="Give the path of a text file.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidOptionError(
            f"{path}: {error.strerror or error}", hint="Check the file and its permissions."
        ) from error
    if len(data) > MAX_BYTES:
        raise InvalidOptionError(
            f"{path}: larger than {MAX_BYTES >> 20} MiB", hint="Attach a part of it."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidOptionError(
            f"{path}: not text in UTF-8 (byte {error.start})", hint="Convert it to UTF-8."
        ) from error
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{path.name}:\n{fence}\n{text.rstrip()}\n{fence}"
