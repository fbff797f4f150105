"""Every kernel compiles for every promised architecture without spilling, and `resources.md` says what it takes."""

from __future__ import annotations

import pytest

from siamtrt.errors import MissingPackageError
from siamtrt.kernels import nvrtc
from siamtrt.kernels.compiler import NvrtcError, include_folder, version
from siamtrt.kernels.nvrtc import ARCHITECTURES, Usage, compile_kernel


@pytest.fixture(scope="module", autouse=True)
def compiler():
    """Skips where NVRTC 12 or CUDA's headers are missing."""
    try:
        include_folder()
    except MissingPackageError as error:
        pytest.skip(str(error))
    if version()[0] != 12:
        pytest.skip(f"NVRTC {version()} leaves architectures out that 12 compiles for")
    return version()


@pytest.fixture(scope="module")
def compiled():
    """Every `.cu` file for every architecture: about 0.3 s each."""
    return [compile_kernel(name, architecture) for name in nvrtc.kernel_names() for architecture in ARCHITECTURES]


def test_every_kernel_compiles_for_every_architecture_without_spills(compiled):
    assert {one.name for one in compiled} >= {"crop", "decode", "xcorr"}
    assert {one.architecture for one in compiled} == {53, 61, 62, 72, 75, 86, 87, 89, 90, 120}
    for one in compiled:
        assert one.usages, f"{one.name}: no entry function found"
        assert one.cubin[:4] == b"\x7fELF"
        assert not one.warnings, f"{one.name} for {one.architecture}:\n{one.warnings}"
        for usage in one.usages:
            assert (usage.local_bytes, usage.spill_bytes) == (0, 0), f"{usage} for {one.architecture}"
            assert 0 < usage.registers <= 255
            assert usage.occupancy(one.architecture) > 0, f"{usage} cannot be launched on {one.architecture}"


def test_the_table_in_the_repository_is_of_these_sources(compiled, compiler):
    if compiler != (12, 9):
        pytest.skip(f"the table is of NVRTC 12.9, this is {compiler}")
    assert nvrtc.TABLE.read_text() == nvrtc.table(compiled), "run python -m siamtrt.kernels.nvrtc"


def test_names_of_entry_functions_are_not_mangled(compiled):
    found = {usage.kernel for one in compiled for usage in one.usages if one.name == "xcorr"}
    assert found == {"xcorr_f32", "xcorr_f16", "xcorr_plain_f32", "xcorr_plain_f16"}


def test_spills_shared_memory_and_launch_bounds_are_seen(tmp_path):
    # 64 live sums do not fit the 65,536 / (4 * 512) = 32 registers a thread that four blocks on an SM leave.
    (tmp_path / "greedy.cu").write_text("""
extern "C" __global__ void __launch_bounds__(512, 4) greedy(float* data) {
  __shared__ float tile[600];
  float sums[64];
  for (int i = 0; i < 64; ++i) sums[i] = data[i * 512 + threadIdx.x];
  tile[threadIdx.x] = sums[0];
  __syncthreads();
  for (int turn = 0; turn < 100; ++turn)
    for (int i = 0; i < 64; ++i) sums[i] = sums[i] * sums[(i + 1) % 64] + tile[turn];
  for (int i = 0; i < 64; ++i) data[i * 512 + threadIdx.x] = sums[i];
}
""")
    (usage,) = compile_kernel("greedy", 90, tmp_path).usages
    assert (usage.kernel, usage.threads, usage.shared_bytes) == ("greedy", 512, 2400)
    assert usage.spill_bytes > 0


def test_errors_show_the_compilers_log(tmp_path):
    (tmp_path / "wrong.cu").write_text('extern "C" __global__ void wrong() { nonsense(); }')
    with pytest.raises(NvrtcError, match=r"wrong\.cu\(1\): error: identifier \"nonsense\" is undefined"):
        compile_kernel("wrong", 75, tmp_path)


@pytest.mark.parametrize(
    ("architecture", "threads", "registers", "shared", "blocks"),
    [
        (90, 128, 48, 17408, 10),  # registers: 65536 / (4 * 48 * 32)
        (86, 128, 48, 17408, 5),  # shared memory: 100 KB / (17 + 1 KB)
        (75, 128, 64, 17408, 3),  # shared memory: 64 KB / 17 KB
        (90, 32, 16, 0, 32),  # blocks
        (120, 256, 32, 0, 6),  # warps: 48 / 8
        (61, 192, 37, 0, 8),  # 4 parts of 16384 registers hold 12 warps of 5 * 256 each; 48 / 6
    ],
)
def test_occupancy_of_known_limits(architecture, threads, registers, shared, blocks):
    usage = Usage("any", registers, shared, 0, 0, threads)
    assert usage.occupancy(architecture) == blocks * (threads // 32) / ARCHITECTURES[architecture].warps
