"""Which device to compute on, by the name the user gives."""

import torch

from ctsr.errors import UsageError
from ctsr.progress import SILENT, Progress

__all__ = ["pick_device"]


def pick_device(name: str = "auto", *, progress: Progress = SILENT) -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    `cuda` on a machine without a GPU warns and gives the CPU: recipes written on a workstation run on a laptop.

    Raises:
        UsageError: no such kind of device, or one that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"`device` {name}: not a device; choose auto, cpu, cuda, cuda:1 or mps") from error
    if name == "cuda" and not torch.cuda.is_available():
        progress.note("warning: `device` cuda: no GPU is available here; computing on the CPU, slowly")
        return torch.device("cpu")
    # PyTorch keeps the index in eight bits: cuda:200 reads as −56.
    if device.type == "cuda" and not 0 <= (device.index or 0) < torch.cuda.device_count():
        raise UsageError(f"`device` {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not _mps():
        raise UsageError("`device` mps: this machine has no Metal device")
    if device.type not in {"cpu", "cuda", "mps"}:
        raise UsageError(f"`device` {name}: not supported; choose auto, cpu, cuda, cuda:1 or mps")
    return device


def _mps() -> bool:
    return torch.backends.mps.is_available()
