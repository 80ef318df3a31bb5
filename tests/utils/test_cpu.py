"""Protects the choice of MKL's code path and threads, and that it leaves the results of products alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from ppdet.utils import cpu
from tests.support import ROOT

AVX2 = "fpu sse4_2 avx fma avx2"
AVX512 = AVX2 + " avx512f avx512dq avx512cd avx512bw avx512vl"
VARIABLES = ("MKL_DEBUG_CPU_TYPE", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "PADDLE_LOCAL_SIZE")


def cpuinfo(vendor: str, flags: str) -> str:
    """Text of /proc/cpuinfo of a processor with two cores."""
    core = f"vendor_id\t: {vendor}\nmodel name\t: a: b\nflags\t\t: {flags}\nbugs\t\t: sysret_ss_attrs\n\n"
    return f"processor\t: 0\n{core}processor\t: 1\n{core}"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Variables of the process without those that matter here; the processor is an AMD with AVX2."""
    values = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    monkeypatch.setattr(os, "environ", values)
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo("AuthenticAMD", AVX2), "utf-8")
    monkeypatch.setattr(cpu, "CPUINFO", file)
    return values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cpuinfo("AuthenticAMD", AVX2), "5"),
        (cpuinfo("AuthenticAMD", AVX512), "7"),
        (cpuinfo("HygonGenuine", AVX2), "5"),
        (cpuinfo("AuthenticAMD", AVX512.replace(" avx512dq", "")), "5"),  # one missing is SIGILL
        (cpuinfo("AuthenticAMD", "sse4_2 avx fma4"), None),
        (cpuinfo("GenuineIntel", AVX512), None),
        ("processor\t: 0\nCPU implementer\t: 0x41\nFeatures\t: fp asimd\n", None),  # Arm
        ("", None),  # no /proc
    ],
)
def test_code_path_follows_vendor_and_flags(text: str, expected: Optional[str]) -> None:
    assert cpu.mkl_code_path(text) == expected


def test_environment_is_set(environment: dict[str, str]) -> None:
    cpu.prepare_environment()
    assert environment["MKL_DEBUG_CPU_TYPE"] == "5"
    assert environment["MKL_NUM_THREADS"] == str(cpu.usable_cores())


def test_no_cpuinfo_sets_no_code_path(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", ROOT / "no such file")
    cpu.prepare_environment()
    assert "MKL_DEBUG_CPU_TYPE" not in environment


@pytest.mark.parametrize("name", ["MKL_DEBUG_CPU_TYPE", "MKL_NUM_THREADS"])
def test_users_own_setting_stays(environment: dict[str, str], name: str) -> None:
    environment[name] = "4"
    cpu.prepare_environment()
    assert environment[name] == "4"


def test_users_number_of_openmp_threads_is_mkls_too(environment: dict[str, str]) -> None:
    environment["OMP_NUM_THREADS"] = "3"
    cpu.prepare_environment()
    assert "MKL_NUM_THREADS" not in environment


def test_processes_of_a_launch_share_the_cores(environment: dict[str, str]) -> None:
    environment["PADDLE_LOCAL_SIZE"] = str(cpu.usable_cores())
    assert cpu.usable_cores() == 1


PRODUCTS = """
import sys
{imports}
import numpy as np
generator = np.random.default_rng(0)
left, right = (paddle.to_tensor(generator.standard_normal((96, 96), np.float32)) for _ in range(2))
kernel = paddle.to_tensor(generator.standard_normal((8, 4, 3, 3), np.float32))
image = paddle.to_tensor(generator.standard_normal((1, 4, 24, 24), np.float32))
product, convolved = paddle.matmul(left, right), paddle.nn.functional.conv2d(image, kernel, padding=1)
exact = left.numpy() @ right.numpy()
np.savez(sys.argv[1], product=product.numpy(), convolved=convolved.numpy(), exact=exact)
"""


@pytest.mark.slow
def test_products_are_equal_within_rounding_whatever_is_set_and_imported_first(tmp_path: Path) -> None:
    results = []
    orders = ("import paddle", "import ppdet, paddle", "import paddle, ppdet")
    environment = {name: value for name, value in os.environ.items() if name != "MKL_DEBUG_CPU_TYPE"}
    for index, imports in enumerate(orders):
        file = tmp_path / f"{index}.npz"
        words = [sys.executable, "-W", "ignore", "-c", PRODUCTS.format(imports=imports), str(file)]
        subprocess.run(words, cwd=ROOT, env={**environment, "OMP_NUM_THREADS": "1"}, check=True)
        results.append(np.load(file))
    plain, before, after = results
    for name in ("product", "convolved"):
        np.testing.assert_allclose(before[name], plain[name], rtol=0, atol=2e-5)
        np.testing.assert_array_equal(after[name], before[name])  # the same code path whatever came first
    np.testing.assert_allclose(before["product"], before["exact"], rtol=0, atol=2e-5)
