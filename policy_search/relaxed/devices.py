"""Whether a number of a tensor may be read on the host: it decides which of two equal ways the policy is applied."""

from __future__ import annotations

import torch


def may_read(device: torch.device) -> bool:
    """Whether reading waits for nothing.

    Where it does not (a CPU), texture and occlusion are computed for the images that drew them alone, and kernels are
    as long as is needed. Elsewhere each operation is computed for the whole batch and at its largest reach, since
    finding out would stop the host until the device is done.
    """
    return device.type == "cpu"
