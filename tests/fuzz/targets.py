"""Every reader of files from elsewhere, by name, as a function of bytes that either works or refuses in one line.

`TARGETS` serves the seeded tests (tests/unit/test_fuzz.py) and the coverage-guided campaigns (tests/fuzz/campaign.py, which
`make fuzz` runs).
"""

from tests.fuzz import from_elsewhere, from_jobs

TARGETS = from_elsewhere.TARGETS | from_jobs.TARGETS
