#!/bin/sh
# Usage: generate.sh PYTHON OUTPUT_DIR
# Writes the Python code for every .proto below this folder to OUTPUT_DIR.
set -eu
cd "$(dirname "$0")/.."
PATH="$(dirname "$1"):$PATH" "$1" -m grpc_tools.protoc -I proto \
  --python_out="$2" --grpc_python_out="$2" --mypy_out="quiet:$2" --mypy_grpc_out="$2" \
  proto/thalweg/v1/*.proto
