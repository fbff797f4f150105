"""NVRTC, CUDA's compiler as a library, through ctypes: kernels to machine code or PTX, without a GPU.

It and the headers come from NVIDIA's packages (`nvidia-cuda-nvrtc-cu12` and `nvidia-cuda-runtime-cu12`, or those of
CUDA 13) or from an installed CUDA, which is where CuPy has them from.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from siamtrt.errors import MissingPackageError, SiamtrtError
from siamtrt.kernels.sources import FOLDER

# Of each version, the newest last: the packages of the library and of the headers below `nvidia`.
PACKAGES = {12: ("cuda_nvrtc", "cuda_runtime"), 13: ("cu13", "cu13")}


class NvrtcError(SiamtrtError):
    """A kernel that does not compile, or a call that NVRTC refused; `received` is its log."""


def _package_folder(package: str) -> Path | None:
    """Where `nvidia.<package>` lies, None if it is not installed."""
    try:
        spec = importlib.util.find_spec(f"nvidia.{package}")
    except ModuleNotFoundError:
        return None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def _installations() -> list[Path]:
    """Folders of an installed CUDA, whether or not they exist."""
    named = [os.environ[key] for key in ("CUDA_HOME", "CUDA_PATH") if key in os.environ]
    return [Path(folder) for folder in (*named, "/usr/local/cuda")]


@functools.cache
def library() -> ctypes.CDLL:
    """NVRTC 12 of the installed package, else of the system; else 13.

    Raises:
        MissingPackageError: there is neither.
    """
    reasons = []
    for major, (package, _) in PACKAGES.items():
        name, packaged = f"libnvrtc.so.{major}", _package_folder(package)
        places = [str(packaged / "lib" / name)] if packaged else []
        for path in (*places, name, *(str(root / "lib64" / name) for root in _installations())):
            try:
                found = ctypes.CDLL(path)
            except OSError as error:
                reasons.append(str(error))
                continue
            found.nvrtcGetErrorString.restype = ctypes.c_char_p
            return found
    raise MissingPackageError(
        "load NVRTC", received="; ".join(reasons), expected="libnvrtc.so.12 or 13",
        fix="pip install nvidia-cuda-nvrtc-cu12",
    )  # fmt: skip


def version() -> tuple[int, int]:
    """Of the NVRTC in use."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
    return major.value, minor.value


def include_folder() -> Path:
    """Where `cuda_fp16.h` lies, of the NVRTC's version if it is a package.

    Raises:
        MissingPackageError: nowhere known.
    """
    packaged = _package_folder(PACKAGES[version()[0]][1])
    for root in (*([packaged] if packaged else []), *_installations()):
        if (root / "include" / "cuda_fp16.h").is_file():
            return root / "include"
    raise MissingPackageError(
        "find CUDA's headers", received="no cuda_fp16.h", expected="the headers of CUDA 12 or 13",
        fix="pip install nvidia-cuda-runtime-cu12, or set CUDA_HOME",
    )  # fmt: skip


def compile_source(
    source: bytes, file_name: str, options: Sequence[str], wanted: Literal["CUBIN", "PTX"]
) -> tuple[bytes, str]:
    """What NVRTC makes of a source, and its log.

    Args:
        source: CUDA C++, which may include our headers and CUDA's.
        file_name: how messages are to call it.
        options: NVRTC's, with `--gpu-architecture`.

    Raises:
        NvrtcError: it does not compile.
        MissingPackageError: no NVRTC or no headers.
    """
    given = [*options, "--std=c++17", f"-I{FOLDER}", f"-I{include_folder()}"]
    program, name = ctypes.c_void_p(), file_name.encode()
    _check(library().nvrtcCreateProgram(ctypes.byref(program), source, name, 0, None, None), "nvrtcCreateProgram")
    try:
        array = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
        status = library().nvrtcCompileProgram(program, len(given), array)
        log = _text(program, "ProgramLog").rstrip(b"\0").decode()
        if status != 0:
            what = f"compile {file_name} with {options[0]}"
            raise NvrtcError(what, received=log, expected="no errors", fix="see the lines named")
        return _text(program, wanted), log
    finally:
        library().nvrtcDestroyProgram(ctypes.byref(program))


@functools.cache
def ptx_of(name: str, architecture: int, *defined: str) -> str:
    """`kernels/<name>.cu` as PTX: assembly that a driver, as new as the NVRTC or newer, turns into machine code.

    Args:
        architecture: compute capability times 10 of the oldest GPU that is to run it.
        defined: macros to define.

    Raises:
        NvrtcError, MissingPackageError: see `compile_source`.
    """
    options = [f"--gpu-architecture=compute_{architecture}", *(f"-D{macro}" for macro in defined)]
    ptx, _ = compile_source((FOLDER / f"{name}.cu").read_bytes(), f"{name}.cu", options, "PTX")
    return ptx.rstrip(b"\0").decode()


def _check(status: int, what: str) -> None:
    if status != 0:
        received = library().nvrtcGetErrorString(status).decode()
        raise NvrtcError(what, received=received, expected="NVRTC_SUCCESS", fix="check the version of NVRTC")


def _text(program: ctypes.c_void_p, getter: str) -> bytes:
    """What `nvrtcGet<getter>` gives, its size asked first."""
    size = ctypes.c_size_t()
    _check(getattr(library(), f"nvrtcGet{getter}Size")(program, ctypes.byref(size)), getter)
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(library(), f"nvrtcGet{getter}")(program, buffer), getter)
    return buffer.raw
