#!/bin/sh
# Installs the Debian packages that some tests use where it may; says which tests will be skipped where it may not.
# Does nothing when they are there. Fails only in CI (where CI is set), where a skipped test would be a lie.
set -eu

packages=""
[ -x /usr/bin/chromium ] || packages="$packages chromium" # tests/e2e/test_browser_demo.py

[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "tests/setup.sh: installing$packages"
  export DEBIAN_FRONTEND=noninteractive
  # The lists may be absent or old: fetch them only when installing fails without.
  # shellcheck disable=SC2086
  apt-get install -qq -y --no-install-recommends $packages >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends $packages >/dev/null; } ||
    echo "tests/setup.sh: apt-get could not install$packages" >&2
fi

if [ ! -x /usr/bin/chromium ]; then
  echo "tests/setup.sh: no /usr/bin/chromium: the browser tests will be skipped" >&2
  echo "tests/setup.sh: on Debian, run this as root, or: apt-get install$packages" >&2
  [ -z "${CI:-}" ] || exit 1
fi
