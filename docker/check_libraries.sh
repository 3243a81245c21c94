#!/bin/sh
# Fail when a shared object of an environment needs a library that this system lacks.
#
#   docker/check_libraries.sh /opt/venv
set -eu
missing=$(
  find "$1" \( -name '*.so' -o -name '*.so.*' \) -type f | while read -r object; do
    ldd "$object" 2>/dev/null | grep 'not found' | sed "s|^|$object:|" || true
  done
)
[ -z "$missing" ] || { printf '%s\n' "$missing" >&2; exit 1; }
