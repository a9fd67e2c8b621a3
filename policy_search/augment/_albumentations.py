"""Import Albumentations without its two side effects: a network call, and torch (2 s, 0.5 GB) if it is installed."""

import os
import sys
from typing import Any

# Albumentations 2.0.8 asks the package index for updates on import; behind a firewall that is a wait of seconds.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

_modules: dict[str, Any] = sys.modules
if "albumentations" not in _modules and "torch" not in _modules:
    # Its package imports ToTensorV2 "if torch is there". None makes that import fail as if torch were not;
    # `import albumentations.pytorch` still works afterwards.
    _modules["torch"] = None
    try:
        import albumentations  # noqa: F401
    finally:
        del _modules["torch"]
