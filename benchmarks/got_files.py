"""Where a sequence's boxes and times are, as the toolkit of its dataset has them.

GOT-10k's: `<tracker>/<sequence>/<sequence>_001.txt`, one file a run, and `<sequence>_time.txt` beside them, which is
also what its evaluation server takes. Others': `<tracker>/<sequence>.txt` and `<tracker>/times/<sequence>_time.txt`.
Boxes are unrounded, where the toolkits keep three decimals: so a file's scores are those of the run.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from siamtrt.benchmarks.one_pass import GOT_LAYOUT

RUN = re.compile(r"_\d{3}")
TIMES = "times"


def boxes_name(sequence: str, layout: str) -> str:
    """Of the first run, from the tracker's folder."""
    return f"{sequence}/{sequence}_001.txt" if layout == GOT_LAYOUT else f"{sequence}.txt"


def times_name(sequence: str, layout: str) -> str:
    """The same of the times."""
    return f"{sequence if layout == GOT_LAYOUT else TIMES}/{sequence}_time.txt"


def is_run(path: PurePosixPath) -> bool:
    """Whether a result file is one run of GOT-10k's layout; its folder is then named like the sequence."""
    folder = path.parent.name
    return path.stem.startswith(folder) and RUN.fullmatch(path.stem[len(folder) :]) is not None
