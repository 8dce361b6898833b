#!/usr/bin/env bash
# Builds gconv with a sanitizer and runs the tests of the CPU kernels under it: tests/sanitize.sh address|undefined|thread
# [pytest arguments]. Needs GCC or Clang, and in the environment what the tests need. A report ends the run with an error.
set -euo pipefail
kind=$1
shift
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-g -O1 -fno-omit-frame-pointer -fsanitize=$kind -fno-sanitize-recover=all"
case $kind in
    address)
        export CC=gcc CXX=g++
        preload=$(gcc -print-file-name=libasan.so)
        # CPython keeps until it ends what it allocates for good. The check of returned stack frames misplaces 64-byte
        # vectors in GCC before 13.2 (bug 110027), and is not the default.
        export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
        ;;
    undefined)
        export CC=gcc CXX=g++
        preload=$(gcc -print-file-name=libubsan.so)
        ;;
    thread)
        # Clang, whose OpenMP library tells the sanitizer by way of Archer where threads wait for each other; GNU's does not.
        export CC=${CC:-clang} CXX=${CXX:-clang++}
        # GCC's runtime: that of Clang 14 can't be loaded before a program that was built without it.
        preload=$(gcc -print-file-name=libtsan.so)
        OMP_TOOL_LIBRARIES=$(find -L "$(dirname "$(readlink -f "$(command -v "$CC")")")/../lib" -maxdepth 1 -name libarcher.so)
        if [ -z "$OMP_TOOL_LIBRARIES" ]; then
            echo "the thread sanitizer needs Clang's OpenMP with Archer (Debian: clang libomp-14-dev)" >&2
            exit 2
        fi
        export OMP_TOOL_LIBRARIES ARCHER_OPTIONS=verbose=1
        export TSAN_OPTIONS=halt_on_error=1:allocator_may_return_null=1:ignore_noninstrumented_modules=1:exitcode=66
        ;;
    *)
        echo "the sanitizer must be address, undefined or thread; got $kind" >&2
        exit 2
        ;;
esac
# Not in the source folder: a build of other flags would be taken up there.
git -C "$source" ls-files -z --cached --others --exclude-standard | tar -C "$source" --null -T - -c | tar -x -C "$work"
cd "$work"
CFLAGS="$flags" CXXFLAGS="$flags" LDFLAGS="-fsanitize=$kind" python -m pip install --quiet --no-deps --target site .
mkdir run && mv tests pyproject.toml run && cd run # the source folder must not be what gets imported
export PYTHONPATH=$work/site LD_PRELOAD=$preload GCONV_BACKEND=cpu
# An extension that failed to compile is left out: then there would be nothing to test.
python -c "
from gconv.backends.cpu import kernels
assert kernels, 'the kernels were not built'
assert kernels.__file__.startswith('$work/site/'), kernels.__file__"
[ $# -gt 0 ] || set -- -q tests/backends/test_kernels.py tests/backends/test_concurrency.py tests/test_random_cases.py
python -m pytest -p no:cacheprovider -p no:faulthandler -s "$@"
