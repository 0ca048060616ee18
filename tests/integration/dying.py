"""Decoding processes that die (SIGKILL) as long as the file `die` lies in the working folder; for a starter to import."""

import os
import signal
from functools import wraps
from pathlib import Path

from fewshot.data import decoding

decode = decoding._decode_batch


@wraps(decode)
def _decode_batch(*arguments: object) -> object:
    if Path("die").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(*arguments)


decoding._decode_batch = _decode_batch
