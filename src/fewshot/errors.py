"""The one error type a user is meant to read: a single line that names the thing and the cure."""

import errno

LONGEST = 1500

_ROOM = "free some space on its disk, or raise the quota, and run again"
_WRITABLE = "make the place writable for this user and run again"
_RIGHTS = "give this user the right to read and write it, and run again"
_IN_THE_WAY = "something else stands in its place, such as a file for a folder or a broken link: remove it, or name another"
SURROUNDINGS = {
    errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EROFS: _WRITABLE, errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS,
    errno.EIO: "look after the disk and run again",
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), _IN_THE_WAY),
}  # fmt: skip
"""Errors of the machine that a user can mend, and the cure."""


def out_of_memory(error: Exception) -> bool:
    """Python's, numpy's and CUDA's own errors, and what torch says of the CPU's memory."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)


def of_the_machine(error: Exception) -> bool:
    """Whether an error that came up while a file was read tells of rights or disk, and nothing of the file.

    Short memory is not among them: of a file whose hash was not checked before, its damage may be what asks for so much.
    """
    return isinstance(error, OSError) and error.errno in SURROUNDINGS


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


class NotFiniteError(DataError):
    """Values that are not finite where a network computed them."""
