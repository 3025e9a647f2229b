#!/bin/sh
# Installs the Debian packages that some tests use where it may; says which tests will be skipped where it may not.
# Does nothing when they are there. Fails only in CI (where CI is set), where a skipped test would be a lie.
set -eu

missing=""
packages=""
need() { # program, Debian package
  PATH="$PATH:/usr/bin:/usr/sbin" command -v "$1" >/dev/null && return
  missing="$missing $1"
  packages="$packages $2"
}
need_all() {
  missing=""
  packages=""
  need chromium chromium         # tests/e2e/test_browser_demo.py
  need turnserver coturn         # tests/turn, tests/e2e/test_turn.py, tests/e2e/test_doctor.py
  need ip iproute2               # the same, in network namespaces
  need redis-server redis-server # tests/store, tests/e2e/test_doctor.py
}

need_all
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "tests/setup.sh: installing$packages"
  # With this runlevel no service is started: tests start their own.
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  # The lists may be absent or old: fetch them only when installing fails without.
  # shellcheck disable=SC2086
  apt-get install -qq -y --no-install-recommends $packages >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends $packages >/dev/null; } ||
    echo "tests/setup.sh: apt-get could not install$packages" >&2
fi

need_all
if [ -n "$missing" ]; then
  echo "tests/setup.sh: missing, so their tests will be skipped:$missing" >&2
  echo "tests/setup.sh: on Debian, run this as root, or: apt-get install$packages" >&2
  [ -z "${CI:-}" ] || exit 1
fi
