"""What a run took, and on which machine."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles

import psutil

from pellucid.records import Record

PACKAGES = ("pellucid", "torch", "transformers", "tokenizers", "numpy", "safetensors", "gguf")


class Latency(Record):
    """How long one thing took, over the cases."""

    count: int
    """How many were timed."""
    median_seconds: float | None
    """Half took less; None where none was timed."""
    p90_seconds: float | None
    """Nine in ten took less."""

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Quantiles by linear interpolation."""
        if not seconds:
            return cls(count=0, median_seconds=None, p90_seconds=None)
        p90 = quantiles(seconds, n=10, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
        return cls(count=len(seconds), median_seconds=median(seconds), p90_seconds=p90)


class Machine(Record):
    """The machine that a run was on."""

    cpu: str
    """Name of the processor."""
    cores: int
    """Logical processors that this process may use."""
    physical_cores: int | None
    """Cores in the machine; None where the system does not tell."""
    memory_bytes: int
    """Memory in the machine."""
    gpu: str | None
    """Name of the GPU; None without one."""
    gpu_memory_bytes: int | None
    """Its memory; None without one."""
    system: str
    """Operating system and its version."""
    python: str
    """Version of Python."""
    threads: int
    """Threads that one operation of torch may use."""
    versions: dict[str, str]
    """Versions of the packages that decide the numbers."""


class HardwareProfile(Record):
    """What a model and its explanations need, on one machine."""

    machine: Machine
    """The machine."""
    model: str
    """Name of the model."""
    parameters: int
    """Numbers in its weights."""
    model_memory_bytes: int
    """What the weights take in memory."""
    model_disk_bytes: int | None
    """What the model takes on disk; None for one that was never there."""
    load_seconds: float | None
    """How long loading took; None where it was loaded before."""
    dtype: str
    """The dtype that it computes in."""
    device: str
    """The device it is on."""
    decision: Latency
    """Time for one decision."""
    explanation: Latency
    """Time for one explanation, its checks included."""
    tokens_per_second: float | None
    """Positions computed per second over all cases; None where nothing was timed."""
    peak_memory_bytes: int
    """Highest resident memory of the process."""
    peak_above_model_bytes: int | None
    """Highest resident memory above that with the model loaded and nothing run; None where it was not measured."""
    peak_gpu_bytes: int | None
    """Highest GPU memory; None without a GPU."""


def read_machine() -> Machine:
    """Look at the machine. Imports torch for its threads and its GPU."""
    import torch

    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return Machine(
        cpu=cpu_name(),
        cores=_usable_cores(),
        physical_cores=psutil.cpu_count(logical=False),
        memory_bytes=psutil.virtual_memory().total,
        gpu=gpu.name if gpu else None,
        gpu_memory_bytes=gpu.total_memory if gpu else None,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        threads=torch.get_num_threads(),
        versions=package_versions(),
    )


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux tells it, else as far as Python knows it."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() in ("model name", "hardware", "cpu model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def package_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def bytes_on_disk(path: Path) -> int:
    """Size of a file, or of all files under a folder; a file that several names share counts once."""
    if path.is_file():
        return path.stat().st_size
    sizes = {(s.st_dev, s.st_ino): s.st_size for s in (file.stat() for file in path.rglob("*") if file.is_file())}
    return sum(sizes.values())


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
