#!/usr/bin/env bash
# Runs the tests of matrix units on Mesa 26's lavapipe, which has some: Debian's stable releases do not. It is that of Debian sid.
#   tests/mesa26.sh FOLDER                  unpacks it
#   tests/mesa26.sh FOLDER PROGRAM [ARG…]   and runs a program there
# Exit code 3: it cannot be had here.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/debian_mesa.sh" sid lvp "$@"
