"""The one error type a user is meant to read: a single line that names the thing and the cure."""


class FewshotError(Exception):
    """Something the user can mend: a file, a setting, an archive. Shown as one line, never as a traceback."""


class ConfigError(FewshotError):
    """A setting that is unknown, of the wrong type, or in conflict with another."""


class DataError(FewshotError):
    """An archive, an image, a split or a store that is missing, damaged or not what it should be."""
