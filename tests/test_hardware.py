"""What is told about the machine, against what the system says."""

import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from pellucid.audit.hardware import (
    HardwareProfile,
    Latency,
    bytes_on_disk,
    cpu_name,
    package_versions,
    read_machine,
)
from pellucid.memory import PeakMemory


def test_the_machine_is_the_one_that_the_system_tells_of() -> None:
    machine = read_machine()
    assert machine.memory_bytes == psutil.virtual_memory().total
    assert machine.threads == torch.get_num_threads()
    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.python == platform.python_version()
    assert machine.versions["torch"] == torch.__version__ or machine.versions["torch"] in torch.__version__
    assert (machine.gpu is not None) == torch.cuda.is_available()
    assert machine.cpu
    assert "Linux" in machine.system or sys.platform != "linux"
    assert "no-such-package" not in package_versions(["no-such-package", "numpy"])


def test_the_cpu_name_is_read_or_replaced(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Imaginary CPU @ 3 GHz: fast\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Imaginary CPU @ 3 GHz: fast"
    assert cpu_name(tmp_path / "absent")
    (tmp_path / "cpuinfo").write_text("nothing here")
    assert cpu_name(tmp_path / "cpuinfo")


@pytest.mark.parametrize("count", [2, 3, 20])
def test_latency_quantiles_agree_with_numpy(count: int) -> None:
    seconds = list(np.random.default_rng(count).uniform(0, 1, count))
    latency = Latency.of([float(each) for each in seconds])
    assert latency.median_seconds == pytest.approx(np.median(seconds))
    assert latency.p90_seconds == pytest.approx(np.quantile(seconds, 0.9))
    assert latency.count == count


def test_latency_of_none_and_of_one() -> None:
    assert Latency.of([]).median_seconds is None
    assert Latency.of([0.5]) == Latency(count=1, median_seconds=0.5, p90_seconds=0.5)


def test_a_peak_that_is_gone_at_the_end_is_still_seen() -> None:
    with PeakMemory() as memory:
        block = np.ones(300 * 2**20, dtype=np.uint8)
        time.sleep(0.1)
        del block
    assert 290 * 2**20 < memory.above_bytes < 400 * 2**20
    assert psutil.Process().memory_info().rss < memory.peak_bytes - 200 * 2**20
    assert (memory.gpu_bytes is None) == (not torch.cuda.is_available())


def test_the_sampler_ends_even_after_an_error() -> None:
    memory = PeakMemory()
    with pytest.raises(ZeroDivisionError), memory:
        raise ZeroDivisionError
    assert not memory._sampler.is_alive()
    assert memory.peak_bytes >= memory.before_bytes > 0


def test_bytes_on_disk_counts_a_shared_file_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c").write_bytes(b"x" * 500)
    assert bytes_on_disk(tmp_path) == 1500
    assert bytes_on_disk(tmp_path / "b") == 1000


def test_a_profile_survives_json() -> None:
    profile = HardwareProfile(
        machine=read_machine(),
        model="tiny",
        parameters=10,
        model_memory_bytes=40,
        model_disk_bytes=None,
        load_seconds=0.5,
        dtype="float32",
        device="cpu",
        decision=Latency.of([0.1]),
        explanation=Latency.of([]),
        tokens_per_second=None,
        peak_memory_bytes=100,
        peak_above_model_bytes=None,
        peak_gpu_bytes=None,
    )
    assert HardwareProfile.model_validate_json(profile.model_dump_json()) == profile
