#!/bin/sh
# Usage: breaking.sh BUF
# Compares proto/ with the newest release tag, or with the commit before this one while nothing is released.
set -eu
cd "$(dirname "$0")/.."
base=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || git rev-parse --verify -q HEAD~1 || true)
if [ -z "$base" ] || ! git cat-file -e "$base:proto/thalweg" 2>/dev/null; then
  echo "buf breaking: nothing to compare with yet"
  exit 0
fi
"$1" breaking --against ".git#ref=$base"
