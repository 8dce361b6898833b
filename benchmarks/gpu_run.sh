#!/usr/bin/env bash
# Everything that needs a device, in under nine minutes: the tests, the memory checker, the benchmarks, CIFAR-10.
#
#   OUT=results [CIFAR10=folder of cifar-10-batches-py] bash benchmarks/gpu_run.sh
#
# Writes environment.txt, tests.txt, sanitizer.txt, gpu.json, gpu.txt, cifar10.txt and summary.txt to $OUT. A part
# that fails or runs out of time does not stop the next one; the exit code is that of the tests.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-results}
mkdir -p "$out"
out=$(cd "$out" && pwd)
python=${PYTHON:-python3}
: >"$out/summary.txt"

# part NAME SECONDS COMMAND...: output to NAME.txt, exit code and time to summary.txt
part() {
    local name=$1 limit=$2 begin=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$out/$name.txt" 2>&1
    local code=$?
    echo "$name: exit $code, $((SECONDS - begin)) s" | tee -a "$out/summary.txt"
    return $code
}

# What is installed is what gets tested, from another folder; the benchmarks run in this one. Nothing is fetched: the
# machine may have no network.
root=$PWD
part environment 60 bash -c "
    $python -m pip install --no-deps --no-build-isolation --quiet .
    $python setup.py --quiet build_ext --inplace
    cd /; $python -c 'from gconv.cli import main; main()' info; nvidia-smi; $python -m pip list 2>/dev/null"

export GCONV_BACKEND=gpu
suite="$python -m pytest -q -p no:cacheprovider -c $root/pyproject.toml --rootdir $root"
part tests 170 bash -c "cd '$out' && $suite --durations=15 --ignore '$root/tests/training/test_faults.py' \
    --ignore '$root/tests/files/test_hostile_files.py' '$root/tests'"
tests=$?

small="test_same_bits_every_time or test_gradients or test_train_test or test_every_parameter or both_ways"
if command -v compute-sanitizer >/dev/null; then
    part sanitizer 90 bash -c "
        cd '$out'
        for tool in memcheck racecheck; do
            timeout 44 compute-sanitizer --tool \$tool --error-exitcode 9 $suite -x '$root/tests/gpu' -k '$small'
            echo \"\$tool: exit \$?\"
        done"
else
    echo "sanitizer: not measured, compute-sanitizer is missing" | tee -a "$out/summary.txt"
fi

part benchmarks 170 "$python" -m benchmarks.gpu --out "$out" --minutes 2.2

if [ -n "${CIFAR10:-}" ]; then
    runs=$(mktemp -d)
    part cifar10 45 "$python" -c 'from gconv.cli import main; main()' train --data "$CIFAR10" --epochs 1 --batch-size 100 --update-rule adam \
        --learning-rate 1e-3 --reg 1e-3 --out "$runs/run"
else
    echo "cifar10: not measured, CIFAR10 is not set" | tee -a "$out/summary.txt"
fi
cat "$out/summary.txt" "$out/gpu.txt" 2>/dev/null
exit "$tests"
