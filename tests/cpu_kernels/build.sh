#!/usr/bin/env bash
# Builds check.cpp with the compiler and flags of the environment: CXX=clang++ CXXFLAGS=-O2 build.sh OUTPUT [LEVEL ...]
# Levels besides baseline: avx2, avx512.
set -euo pipefail
output=$1
shift
cd "$(dirname "$0")/../../kernels/cpu"
flags="-std=c++17 -I. -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wall -Wextra -Werror -Wno-unknown-pragmas
    -Wno-maybe-uninitialized -Wno-unknown-warning-option -Wno-psabi"
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
for level in baseline "$@"; do
    case $level in
        baseline) more= ;;
        avx2) more="-mavx2 -mfma" ;;
        avx512) more="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mprefer-vector-width=512" ;;
    esac
    # shellcheck disable=SC2086
    ${CXX:-g++} ${CXXFLAGS:--O2} $flags $more -DGCONV_LEVEL="$level" -c level.cpp -o "$objects/$level.o" &
done
wait
defines=$(for level in "$@"; do echo "-DGCONV_HAS_${level^^}"; done)
# shellcheck disable=SC2086
${CXX:-g++} ${CXXFLAGS:--O2} $flags $defines dispatch.cpp ../../tests/cpu_kernels/check.cpp "$objects"/*.o -o "$output"
