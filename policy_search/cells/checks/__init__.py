"""What is wrong with a dataset: `policy-search data check`.

`findings` says which problems there are; `entries`, `pictures`, `shapes`, `overlaps` look for them in annotation files,
images, outlines and masks, `across` between images, types and splits; `run` goes through datasets; `loading` opens them
in spite of damaged files.
"""

from policy_search.cells.checks.findings import CODES, Code, Finding
from policy_search.cells.checks.loading import Opened, open_splits
from policy_search.cells.checks.overlaps import duplicate_pairs
from policy_search.cells.checks.run import Check, Report, check_dataset

__all__ = [
    "CODES",
    "Check",
    "Code",
    "Finding",
    "Opened",
    "Report",
    "check_dataset",
    "duplicate_pairs",
    "open_splits",
]
