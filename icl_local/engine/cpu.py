"""Instructions of this processor that the installed llama.cpp was built without: the price of a ready build."""

import platform
import re
from pathlib import Path

# llama_print_system_info's name -> Linux's name in /proc/cpuinfo
_X86 = {
    "SSE3": "pni",
    "SSSE3": "ssse3",
    "AVX": "avx",
    "AVX_VNNI": "avx_vnni",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "BMI2": "bmi2",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
}
_ARM = {"FP16_VA": "asimdhp", "DOTPROD": "asimddp", "MATMUL_INT8": "i8mm", "SVE": "sve", "SME": "sme"}


def unused_instructions(
    cpu_features: str, *, machine: str = platform.machine(), cpuinfo: Path = Path("/proc/cpuinfo")
) -> list[str] | None:
    """Return llama.cpp's names of instructions that the processor has and a build with ``cpu_features`` lacks.

    None where the system does not list them (only Linux does), or for another kind of processor.
    """
    names = {"x86_64": _X86, "aarch64": _ARM}.get(machine)
    try:
        listed = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    if names is None or listed is None:
        return None
    has, used = set(listed[1].split()), set(cpu_features.split())
    return [name for name, flag in names.items() if flag in has and name not in used]
