#!/bin/sh
# Generates the Python side of protocol/wire into client/ray/_wire (not kept in git). Debian's protoc and gRPC
# plugin are used on purpose: code they generate runs on every protobuf since 4.21 and every grpcio.
set -eu
cd "$(dirname "$0")/.."
out=${1:-client/ray/_wire}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

protoc -I. --python_out="$made" --plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin --grpc_out="$made" \
  protocol/wire/*.proto

# The generated modules import each other by the path of their .proto; in the package they are neighbours.
sed -i -E 's/^from protocol\.wire import (\w+_pb2)/from ray._wire import \1/' "$made"/protocol/wire/*.py
for proto in protocol/wire/*.proto; do
  grep -q '^service ' "$proto" || rm -f "$made/protocol/wire/$(basename "$proto" .proto)_pb2_grpc.py"
done
mkdir -p "$out"
printf '"""Generated from protocol/wire by deploy/generate_python_protocol.sh; not to be edited."""\n' \
  >"$made/protocol/wire/__init__.py"
for file in "$made"/protocol/wire/*.py; do
  name=$(basename "$file")
  cmp -s "$file" "$out/$name" || { cp "$file" "$out/$name.part" && mv "$out/$name.part" "$out/$name"; }
done
