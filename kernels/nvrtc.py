"""Compiles the kernels with NVRTC 12 for every promised architecture, without a GPU, and records what they take.

    python -m siamtrt.kernels.nvrtc

writes `kernels/resources.md`. NVRTC 12 compiles compute capabilities 5.3 to 12.0; 13 begins at 7.5.
"""

from __future__ import annotations

import itertools
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from siamtrt.kernels.compiler import NvrtcError, compile_source, version
from siamtrt.kernels.sources import FOLDER

TABLE = FOLDER / "resources.md"


@dataclass(frozen=True)
class Limits:
    """What one SM holds, and its shared memory's granularity and the part of it that each block loses to the system."""

    blocks: int
    warps: int
    shared_bytes: int
    shared_step: int = 256
    shared_reserved: int = 0
    registers: int = 65536


# CUDA C++ Programming Guide 12.9, "Technical Specifications per Compute Capability"; steps and blocks as in
# `cuda_occupancy.h` of CUDA 12.9. Keys are compute capabilities times 10.
ARCHITECTURES = {
    53: Limits(32, 64, 64 << 10), 61: Limits(32, 64, 96 << 10), 62: Limits(32, 64, 64 << 10),
    72: Limits(32, 64, 96 << 10), 75: Limits(16, 32, 64 << 10), 86: Limits(16, 48, 100 << 10, 128, 1024),
    87: Limits(16, 48, 164 << 10, 128, 1024), 89: Limits(24, 48, 100 << 10, 128, 1024),
    90: Limits(32, 64, 228 << 10, 128, 1024), 120: Limits(24, 48, 100 << 10, 128, 1024),
}  # fmt: skip


@dataclass(frozen=True)
class Usage:
    """Resources of one `__global__` function: registers a thread, static shared bytes a block, bytes of stack and of
    spilled registers a thread, and the block size that its `__launch_bounds__` names."""

    kernel: str
    registers: int
    shared_bytes: int
    local_bytes: int
    spill_bytes: int
    threads: int

    def occupancy(self, architecture: int, threads: int | None = None) -> float:
        """Share of an SM's warps that can be resident, for blocks of `threads` threads or those of the launch bounds.

        Registers are handed out to warps in steps of 256, to one of the SM's four parts each; shared memory to blocks.
        """
        limits = ARCHITECTURES[architecture]
        warps = -(-(threads or self.threads) // 32)
        per_warp = -(-max(self.registers, 1) * 32 // 256) * 256
        by_registers = limits.registers // 4 // per_warp * 4 // warps
        shared = self.shared_bytes + limits.shared_reserved
        blocks = min(limits.blocks, limits.warps // warps, by_registers)
        if shared:
            blocks = min(blocks, limits.shared_bytes // (-(-shared // limits.shared_step) * limits.shared_step))
        return blocks * warps / limits.warps


@dataclass(frozen=True)
class Compiled:
    """One `.cu` file for one architecture: the machine code, its kernels by name, and the compiler's warnings."""

    name: str
    architecture: int
    cubin: bytes
    usages: tuple[Usage, ...]
    warnings: str


def kernel_names() -> list[str]:
    """The `.cu` files of this folder, without their suffix."""
    return sorted(path.stem for path in FOLDER.glob("*.cu"))


def compile_kernel(name: str, architecture: int, folder: Path = FOLDER) -> Compiled:
    """Compile `<folder>/<name>.cu` to machine code.

    Args:
        architecture: compute capability times 10, one of `ARCHITECTURES`.

    Raises:
        NvrtcError: it does not compile.
        MissingPackageError: no NVRTC or no headers.
    """
    options = [f"--gpu-architecture=sm_{architecture}", f"-I{folder}", "--ptxas-options=-v"]
    cubin, log = compile_source((folder / f"{name}.cu").read_bytes(), f"{name}.cu", options, "CUBIN")
    lines = (line for line in log.splitlines() if line.strip() and not line.startswith("ptxas"))
    warnings = "\n".join(line for line in lines if "Architectures prior to" not in line)  # 5.3 to 7.2: 13 lacks them
    return Compiled(name, architecture, cubin, _usages(log, cubin), warnings)


def _usages(log: str, cubin: bytes) -> tuple[Usage, ...]:
    """Reads the assembler's report, a paragraph for each entry function."""
    usages = []
    for paragraph in log.split("Compiling entry function '")[1:]:
        kernel = paragraph.split("'")[0]
        numbers = {
            key: sum(map(int, re.findall(pattern, paragraph)))
            for key, pattern in (
                ("registers", r"Used (\d+) registers"), ("shared_bytes", r"(\d+) bytes smem"),
                ("local_bytes", r"(\d+) bytes stack frame"), ("spill_bytes", r"(\d+) bytes spill"),
            )
        }  # fmt: skip
        usages.append(Usage(kernel, threads=_launch_bound(cubin, kernel), **numbers))
    return tuple(sorted(usages, key=lambda usage: usage.kernel))


def _launch_bound(cubin: bytes, kernel: str) -> int:
    """Threads of `__launch_bounds__`: attribute 5 of the ELF section `.nv.info.<kernel>`; 1024 where there are none.

    The section is a list of (format, attribute, 16-bit size or value), with `size` bytes behind it in format 4.
    """
    start, count, names = (struct.unpack_from(kind, cubin, at)[0] for kind, at in (("<Q", 40), ("<H", 60), ("<H", 62)))
    headers = [struct.unpack_from("<IIQQQQ", cubin, start + 64 * index) for index in range(count)]
    for name, _, _, _, offset, size in headers:
        at = headers[names][4] + name
        if cubin[at : cubin.index(b"\0", at)].decode() != f".nv.info.{kernel}":
            continue
        position = offset
        while position < offset + size:
            kind, attribute, length = struct.unpack_from("<BBH", cubin, position)
            if (kind, attribute) == (4, 5):
                x, y, z = struct.unpack_from("<III", cubin, position + 4)
                return x * y * z
            position += 4 + (length if kind == 4 else 0)
    return 1024


def table_row(usage: Usage, architecture: int) -> str:
    """One line of `resources.md`."""
    return (
        f"| {usage.kernel} | {architecture // 10}.{architecture % 10} | {usage.threads} | {usage.registers} "
        f"| {usage.shared_bytes} | {usage.local_bytes} | {usage.spill_bytes} | {usage.occupancy(architecture):.0%} |"
    )


def table(compiled: list[Compiled]) -> str:
    """`resources.md`, by file and kernel, then architecture."""
    rows = [(one.name, usage.kernel, one.architecture, usage) for one in compiled for usage in one.usages]
    lines = [
        "# Resources of the kernels",
        "",
        f"Compiled by NVRTC {'.'.join(map(str, version()))} without a GPU, by `python -m siamtrt.kernels.nvrtc`.",
        "Threads are those of `__launch_bounds__`; occupancy is the share of an SM's warps that blocks of that size",
        "can fill. Stack and spills are bytes a thread, shared memory bytes a block.",
        "",
        "| kernel | compute capability | threads | registers | shared | stack | spills | occupancy |",
        "|---|---|---|---|---|---|---|---|",
        *(table_row(usage, architecture) for _, _, architecture, usage in sorted(rows, key=lambda row: row[:3])),
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=TABLE, show_default=True, help="The table.")
def main(output: Path) -> None:
    """Compile every kernel for every architecture and write the table of what they take."""
    compiled, failures = [], []
    for name, architecture in tqdm(list(itertools.product(kernel_names(), ARCHITECTURES)), disable=None):
        try:
            compiled.append(compile_kernel(name, architecture))
        except NvrtcError as error:
            failures.append(f"{error.what}:\n{error.received}")
    if failures:
        raise click.ClickException(f"nothing written, for {len(failures)} failed; the first: {failures[0]}")
    text = table(compiled)
    output.write_text(text)
    click.echo(text)
    for one in compiled:
        if one.warnings:
            click.echo(f"{one.name} for {one.architecture}: {one.warnings}", file=sys.stderr)


if __name__ == "__main__":
    main()
