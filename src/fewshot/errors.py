"""The one error type a user is meant to read: a single line that names the thing and the cure."""

LONGEST = 1500


def printable(text: str) -> str:
    """A text in one line that any file and terminal takes: control characters and halves of characters as escapes."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


class FewshotError(Exception):
    """Something the user can mend: a file, a setting, an archive. Shown as one line, never as a traceback.

    What it names may come out of a damaged or hostile file: line ends and other control characters are shown as escapes,
    and of a text that nobody would read the middle is left out.
    """

    def __init__(self, message: str) -> None:
        line = printable(message)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}")


class ConfigError(FewshotError):
    """A setting that is unknown, of the wrong type, or in conflict with another."""


class DataError(FewshotError):
    """An archive, an image, a split or a store that is missing, damaged or not what it should be."""
