# Sourced by scripts/demo and scripts/test: a .venv beside this folder, filled once.
#
# need EXTRA: install icl-local with that extra at the tested versions, the demo's files by their sha256. A stamp over
# everything that decides what is installed makes a second call do nothing. PYTHON names the interpreter (3.11 or newer).
#
# llama.cpp comes ready-made where scripts/llama_wheels.txt lists a wheel for this system, else it is compiled for this
# machine's processor. ICL_BUILD: source compiles in any case, cpu, metal or cu124 names the kind of ready wheel.

PYTHON="${PYTHON:-python3}"

fail() {
    echo "error: $*" >&2
    exit 1
}

need() {
    local extra="$1" stamp
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3"
    stamp="$({ cat setup.cfg pyproject.toml scripts/*.txt scripts/demo.lock; "$PYTHON" -VV; } | cksum | tr -d ' ')"
    [ "$(cat ".venv/.$extra" 2>/dev/null)" = "$stamp" ] && return
    [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
    echo "installing icl-local[$extra] into .venv" >&2
    ready_wheel || prepare_compiling
    if [ "$extra" = demo ] && in_lock; then
        .venv/bin/python -m pip install --quiet --require-hashes --requirement scripts/demo.lock
        .venv/bin/python -m pip install --quiet --no-deps --editable .
    else
        # First and by its exact version: a range would pull the CUDA build where a CPU build is at hand.
        [ "$extra" = demo ] ||
            .venv/bin/python -m pip install --quiet --constraint scripts/constraints.txt torch=="$(version_of torch)"
        .venv/bin/python -m pip install --quiet --constraint scripts/constraints.txt --editable ".[$extra]"
    fi
    echo "$stamp" >".venv/.$extra"
}

# Install llama-cpp-python from the index of its project, if scripts/llama_wheels.txt has the sha256; say why not.
ready_wheel() {
    local kind="${ICL_BUILD:-cpu}" index="${ICL_WHEELS:-https://abetlen.github.io/llama-cpp-python/whl}"
    [ "$(uname -sm)" != "Darwin arm64" ] || kind="${ICL_BUILD:-metal}"
    [ "$kind" != source ] || return 1
    grep -q '^ *--hash' scripts/llama_wheels.txt ||
        { echo "scripts/llama_wheels.txt lists no ready build of llama.cpp" >&2 && return 1; }
    .venv/bin/python -m pip install --quiet --no-deps --only-binary :all: --require-hashes \
        --index-url "$index/$kind" --timeout 5 --retries 0 --requirement scripts/llama_wheels.txt 2>/dev/null ||
        { echo "no ready build of llama.cpp for this system at $index/$kind" >&2 && return 1; }
    echo "llama.cpp: a ready build from $index/$kind; 'icl machine build' says what this processor would add" >&2
}

# What pip builds next: llama.cpp's library alone, with every instruction of this processor.
prepare_compiling() {
    command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
        fail "a C++ compiler is needed to build llama.cpp (Debian: apt install g++; macOS: xcode-select --install)"
    echo "llama.cpp is compiled once, some minutes" >&2
    export SKBUILD_CMAKE_DEFINE="LLAVA_BUILD=OFF;CMAKE_PROJECT_llama_cpp_INCLUDE=$PWD/scripts/llama_only.cmake"
}

# Systems whose files scripts/demo.lock holds; elsewhere versions are pinned, files are not checked, and that is said.
in_lock() {
    case "$("$PYTHON" -c 'import platform, sys
print(sys.platform, platform.machine(), platform.libc_ver()[0], "%d.%d" % sys.version_info[:2])')" in
    linux\ x86_64\ glibc\ 3.1[1-4] | linux\ aarch64\ glibc\ 3.1[1-4] | darwin\ *\ 3.1[1-4]) ;;
    *) echo "scripts/demo.lock has no files for this system: versions are pinned, their sha256 is not checked" >&2 && return 1 ;;
    esac
}

version_of() {
    sed -n "s/^$1==//p" scripts/constraints.txt
}
