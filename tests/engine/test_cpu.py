"""What the installed llama.cpp leaves unused of a processor."""

from __future__ import annotations

from pathlib import Path

from icl_local.engine import unused_instructions


def test_instructions_of_the_processor_that_the_build_lacks_are_named(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu pni ssse3 avx avx2 avx512f avx512_vnni\nbugs\t\t: fma\n")
    generic = "AVX AVX2 LLAMAFILE SSE3 SSSE3"
    assert unused_instructions(generic, machine="x86_64", cpuinfo=cpuinfo) == ["AVX512", "AVX512_VNNI"]
    assert unused_instructions(f"{generic} AVX512 AVX512_VNNI", machine="x86_64", cpuinfo=cpuinfo) == []
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n")
    assert unused_instructions("DOTPROD NEON", machine="aarch64", cpuinfo=cpuinfo) == ["MATMUL_INT8"]
    assert unused_instructions("", machine="arm64", cpuinfo=cpuinfo) is None
    assert unused_instructions("", machine="x86_64", cpuinfo=tmp_path / "missing") is None
