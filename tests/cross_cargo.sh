# For scripts that source it: cargo for another target than this machine's. `cross_cargo TARGET` sets `cross` (the command with its
# environment) and `build_std` (arguments).
#
# The installed toolchain is taken where it has the target (`rustup target add TARGET`; in CI that is done here), else Debian's,
# which builds the standard library from source.

debian_packages=(rustc-web cargo-web rust-web-src libstd-rust-web-dev lld-19)

has_target() { [ -d "$(rustc --print sysroot)/lib/rustlib/$1" ]; }

has_debian_rust() {
    [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library/std ] && command -v wasm-ld-19 >/dev/null
}

cross_cargo() { # TARGET
    if ! has_target "$1" && ! has_debian_rust && [ "${CI:-}" = true ]; then
        if ! rustup target add "$1" >/dev/null 2>&1 && command -v apt-get >/dev/null; then
            local sudo=()
            [ "$(id -u)" = 0 ] || sudo=(sudo)
            "${sudo[@]}" apt-get update -qq
            DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${debian_packages[@]}" >/dev/null
        fi
    fi
    if has_target "$1"; then
        cross=(cargo)
        build_std=()
    elif has_debian_rust; then
        cross=(env RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-19 /usr/bin/cargo)
        build_std=(-Zbuild-std=std,panic_abort)
    else
        printf 'expected the target %s (rustup target add %s) or the Debian packages %s, found neither\n' \
            "$1" "$1" "${debian_packages[*]}" >&2
        exit 3
    fi
}
