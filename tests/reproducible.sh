#!/usr/bin/env bash
# Builds the sdist and the wheel twice, in two folders at two times, and compares their digests. Needs the package build,
# Cython and setuptools in the environment. Exit code 1 if they differ.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=$(git -C "$source" log -1 --format=%ct)
export SOURCE_DATE_EPOCH
for folder in first second/deeper; do
    mkdir -p "$work/$folder"
    git -C "$source" archive HEAD | tar -x -C "$work/$folder"
    (cd "$work/$folder" && python -m build --no-isolation --outdir out . >"$work/log.txt" 2>&1) || { cat "$work/log.txt"; exit 1; }
    sleep 2
done
for file in "$work"/first/out/*; do
    sha256sum "$file" "$work/second/deeper/out/$(basename "$file")"
    cmp "$file" "$work/second/deeper/out/$(basename "$file")"
done
echo "both builds are the same to the byte"
