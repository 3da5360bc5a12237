# Sets `wasm_cargo`: the cargo command for wasm32, with its environment. Sourced by build.sh and check.sh.
#
# The installed toolchain where it has the target (`rustup target add wasm32-unknown-unknown`), else Debian's, which builds
# the standard library from source.
cross_cargo() { # TARGET
    if [ -d "$(rustc --print sysroot)/lib/rustlib/$1" ]; then
        wasm_cargo=(env cargo)
        build_std=()
        return
    fi
    if [ ! -x /usr/bin/cargo ] || [ ! -d /usr/lib/rustlib/src/rust/library/std ] || ! command -v wasm-ld-19 >/dev/null; then
        local packages=(rustc-web cargo-web rust-web-src libstd-rust-web-dev lld-19)
        if [ "${CI:-}" = true ] && command -v apt-get >/dev/null; then
            local sudo=()
            [ "$(id -u)" = 0 ] || sudo=(sudo)
            "${sudo[@]}" apt-get update -qq
            DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
        else
            printf 'expected the target %s (rustup target add %s) or the Debian packages %s, found neither\n' "$1" "$1" "${packages[*]}" >&2
            exit 3
        fi
    fi
    wasm_cargo=(env RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-19 /usr/bin/cargo)
    build_std=(-Zbuild-std=std,panic_abort)
}
