#!/usr/bin/env bash
# Unpacks Mesa 25's lavapipe from Debian's backports beside the installed one and says how to choose it (Debian 12).
#   eval "$(peers/lavapipe25.sh)"
set -euo pipefail
to=${1:-/opt/lavapipe25}
icd=$to/lvp_icd.json

if [ ! -f "$icd" ]; then
    mkdir -p "$to/apt/lists/partial"
    mirror=$("$(dirname "${BASH_SOURCE[0]}")/../tests/debian_mirror.sh")
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] $mirror bookworm-backports main" >"$to/apt/sources.list"
    apt=(apt-get "-oDir::Etc::SourceList=$to/apt/sources.list" -oDir::Etc::SourceParts=/dev/null "-oDir::State::Lists=$to/apt/lists"
        "-oAPT::Sandbox::User=$(id -un)")
    "${apt[@]}" update -qq >&2
    (cd "$to/apt" && "${apt[@]}" download -qq mesa-vulkan-drivers >&2)
    dpkg -x "$to"/apt/mesa-vulkan-drivers_*.deb "$to"
    library=$(find "$to/usr" -name libvulkan_lvp.so)
    printf '{"file_format_version": "1.0.0", "ICD": {"api_version": "1.4.305", "library_path": "%s"}}\n' "$library" >"$icd"
fi
echo "export VK_DRIVER_FILES=$icd"
