#!/bin/sh
# Builds every fuzz target (tests/fuzz, with Clang's libFuzzer, ASan and UBSan) and runs each for FUZZ_SECONDS.
# Inputs that were found stay in build/fuzz/TARGET; an input that breaks something is in build/fuzz too.
set -eu
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-30}
# An output base of its own: another compiler would make Bazel forget what it has built with GCC.
base=${FUZZ_OUTPUT_BASE:-${XDG_CACHE_HOME:-$HOME/.cache}/raylet-fuzz}
run_bazel() {
  command=$1
  shift
  ${BAZEL:-bazel} --output_base="$base" "$command" "$@"
}

targets=$(run_bazel query 'attr(tags, "fuzz", kind(cc_binary, //tests/fuzz/...))' 2>/dev/null)
[ -n "$targets" ] || { echo "fuzz: no targets in tests/fuzz" >&2; exit 1; }
# shellcheck disable=SC2086  # a list of words
run_bazel build --config=fuzz $targets

failed=
count=0
for target in $targets; do
  name=${target##*:}
  binary=$(run_bazel info --config=fuzz bazel-bin 2>/dev/null)/tests/fuzz/$name
  mkdir -p "build/fuzz/$name"
  echo "fuzz: $name for $seconds s"
  count=$((count + 1))
  if ! "$binary" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
    -artifact_prefix="build/fuzz/$name-" "build/fuzz/$name" >"build/fuzz/$name.log" 2>&1; then
    tail -n 40 "build/fuzz/$name.log" >&2
    failed="$failed $name"
  fi
done
[ -z "$failed" ] || { echo "fuzz: FAILED:$failed" >&2; exit 1; }
echo "fuzz: $count targets, nothing found"
