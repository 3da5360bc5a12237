#!/usr/bin/env bash
# Takes a Vulkan driver of Mesa from a suite of Debian, with all that it links, beside the system and without root, and starts a
# program on it with the suite's own loader.
#   tests/debian_mesa.sh SUITE DRIVER FOLDER                  unpacks it; DRIVER is lvp (lavapipe) or radeon
#   tests/debian_mesa.sh SUITE DRIVER FOLDER PROGRAM [ARG…]   and runs a program there
# Exit code 3: it cannot be had here.
set -euo pipefail
suite=${1:?expected a suite of Debian} driver=${2:?expected a driver of Mesa} to=${3:?expected a folder}
shift 3
none() { printf '%s\n' "$*" >&2; exit 3; }

architecture=$(dpkg --print-architecture 2>/dev/null) || none "expected Debian or a system like it"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
ready=$to/${driver}_icd.json

if [ ! -f "$ready" ]; then
    [ -f $keys ] || none "expected $keys (debian-archive-keyring)"
    apt=$to/apt
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    mirror=$("$(dirname "${BASH_SOURCE[0]}")/debian_mirror.sh") || exit 3
    echo "deb [signed-by=$keys] $mirror $suite main" >"$apt/sources.list"
    # Nothing counts as installed, so that everything down to libc comes along.
    : >"$apt/status"
    options=(-qq -y -oDir::Etc::SourceList="$apt/sources.list" -oDir::Etc::SourceParts=/dev/null
        -oDir::State::Lists="$apt/lists" -oDir::State::status="$apt/status" -oDir::Cache="$apt"
        -oDir::Cache::archives="$apt/archives" -oDir::Log="$apt" -oDebug::NoLocking=1
        -oAPT::Install-Recommends=false -oAPT::Sandbox::User="$(id -un)")
    apt-get "${options[@]}" update >&2 || none "$mirror does not answer"
    apt-get "${options[@]}" --download-only install mesa-vulkan-drivers libvulkan1 >&2 || none "the Mesa of Debian $suite does not download"
    for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$to"; done
    rm -r "$apt"
    library=$(find "$to/usr/lib" -name "libvulkan_$driver.so" | head -n 1)
    [ -n "$library" ] || none "the Mesa of Debian $suite has no $driver"
    printf '{"file_format_version": "1.0.1", "ICD": {"api_version": "1.4.0", "library_path": "%s"}}\n' "$library" >"$ready"
fi
[ $# -gt 0 ] || exit 0
libraries=$(dirname "$(find "$to/usr/lib" -name "libvulkan_$driver.so")")
loader=$(find "$libraries" -name 'ld-linux*.so.*' | head -n 1)
[ -n "$loader" ] || none "expected a loader for $architecture in $libraries"
export VK_DRIVER_FILES=$ready
exec "$loader" --library-path "$libraries" "$@"
