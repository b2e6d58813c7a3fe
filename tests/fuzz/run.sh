#!/bin/sh
# Builds the fuzz targets with clang's libFuzzer, ASan and UBSan, and runs each for some seconds (30).
#
#   tests/fuzz/run.sh [seconds] [target ...]
#
# A finding is a file in build/fuzz/findings/<target>/; run build/fuzz/<target> <file> to see it again. The
# corpora in build/fuzz/corpus grow from run to run. The canary must fail, or nothing here proves anything.
# Needs Debian's clang and libclang-rt-14-dev.
set -eu

cd "$(dirname "$0")/../.."
seconds=${1:-30}
[ $# -gt 0 ] && shift
sessions="client_frame_fuzz graph_chunk_fuzz packet_stream_fuzz"
targets=${*:-$sessions store_command_fuzz head_record_fuzz head_request_fuzz}
out=build/fuzz
jobs=${FUZZ_JOBS:-2}

case $seconds in
  '' | *[!0-9]*) echo "run.sh: expected a number of seconds, not '$seconds'" >&2; exit 2 ;;
esac
command -v clang++ >/dev/null || {
  echo "run.sh: clang++ is not here; apt install clang libclang-rt-14-dev" >&2
  exit 1
}

mkdir -p "$out/obj" "$out/gen/protocol/wire"
for proto in common session store head; do
  protoc -I . --cpp_out="$out/gen" "protocol/wire/$proto.proto"
done

sanitize="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
flags="-std=c++20 -O1 -g1 -fno-omit-frame-pointer -Wno-unused-parameter -I. -I$out/gen"
cores=$(ls protocol/words/*.cc protocol/codec/*.cc plasma/core/*.cc gcs/*.cc | grep -v '_test\.cc$')
sources="$cores plasma/ipc/packet.cc daemons/raylet/frame_codec.cc daemons/store/store_codec.cc
  daemons/head/head_codec.cc $out/gen/protocol/wire/head.pb.cc
  $out/gen/protocol/wire/common.pb.cc $out/gen/protocol/wire/session.pb.cc $out/gen/protocol/wire/store.pb.cc"
programs="tests/fuzz/make_seeds.cc tests/fuzz/canary_fuzz.cc"
for target in $targets; do
  programs="$programs tests/fuzz/$target.cc"
done

object_of() { echo "$out/obj/$(echo "$1" | tr / _).o"; }

# Compiled again when the preprocessed text has changed; that is what an object depends on. Generated code is
# not instrumented: it takes minutes to compile, and what it lets through is what is looked at here.
for source in $sources $programs; do
  echo "$source $(object_of "$source")"
done | xargs -P "$jobs" -L 1 sh -c '
  source=$0 object=$1 sanitize="'"$sanitize"'"
  case $source in *.pb.cc) sanitize= ;; esac
  key=$( { echo "'"$flags"' $sanitize"; clang++ '"$flags"' -E "$source"; } | sha256sum)
  [ -f "$object" ] && [ "$(cat "$object.key" 2>/dev/null)" = "$key" ] && exit 0
  clang++ '"$flags"' $sanitize -c "$source" -o "$object" && echo "$key" >"$object.key"'

objects=
for source in $sources; do objects="$objects $(object_of "$source")"; done
rm -f "$out/libraylet.a"
# shellcheck disable=SC2086
ar qcs "$out/libraylet.a" $objects
link="-fsanitize=address,undefined -L$out -lraylet -lprotobuf -lpthread"
# shellcheck disable=SC2086
clang++ "$(object_of tests/fuzz/make_seeds.cc)" -o "$out/make_seeds" $link
for target in canary_fuzz $targets; do
  # shellcheck disable=SC2086
  clang++ -fsanitize=fuzzer "$(object_of "tests/fuzz/$target.cc")" -o "$out/$target" $link
done

"$out/make_seeds" "$out/corpus"
failed=
for target in $targets; do
  mkdir -p "$out/corpus/$target" "$out/findings/$target"
  log="$out/$target.log"
  length=8192
  [ "$target" = store_command_fuzz ] && length=1024  # every step of it checks all tables
  if "$out/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=$length \
    -print_final_stats=1 -artifact_prefix="$out/findings/$target/" "$out/corpus/$target" >"$log" 2>&1; then
    echo "ok   $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s," \
      "$(grep -o 'cov: [0-9]*' "$log" | tail -1)"
  else
    failed="$failed $target"
    echo "FAIL $target, see $log" >&2
    tail -25 "$log" >&2
  fi
done

mkdir -p "$out/corpus/canary_fuzz" "$out/findings/canary_fuzz"
rm -rf "$out/corpus/canary_fuzz" && mkdir "$out/corpus/canary_fuzz"
if "$out/canary_fuzz" -max_total_time=60 -seed=1 -artifact_prefix="$out/findings/canary_fuzz/" \
  "$out/corpus/canary_fuzz" >"$out/canary_fuzz.log" 2>&1; then
  echo "FAIL the canary was not found: the fuzzers find nothing" >&2
  exit 1
fi
grep -q "the canary sings" "$out/canary_fuzz.log" || { echo "FAIL the canary died of something else" >&2; exit 1; }
echo "ok   canary: found, as it must be"
[ -z "$failed" ] || { echo "fuzzing found something in:$failed" >&2; exit 1; }
