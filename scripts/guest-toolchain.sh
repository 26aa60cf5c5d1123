# Where the guests' toolchains are and which versions are wanted: sourced by the two scripts beside
# it, so that what one installs is what the other finds.
#
# Languages: rust, c, js, py. Everything that is not a system package lives in target/tools.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
GUESTS=$ROOT/guest-apps
TOOLS=$ROOT/target/tools
VENV=$TOOLS/venv
LANGUAGES=(rust c js py)

WASM_COMPONENT_LD_VERSION=0.5.31
# wasip2 needs Rust 1.87; the linker must read the objects of that compiler's LLVM.
MIN_RUST_MINOR=87
MIN_LLD=20
MIN_NODE=20

DEBIAN_RUSTC=/usr/bin/rustc
DEBIAN_CARGO=/usr/bin/cargo
WASI_LIBC=/usr/lib/wasm32-wasi

# What a caller set for its own build must not reach the guests' builds.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS RUSTC RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTC_BOOTSTRAP
unset RUSTUP_TOOLCHAIN CARGO_BUILD_TARGET CARGO_BUILD_RUSTFLAGS CARGO_TARGET_DIR CARGO_INCREMENTAL
unset MAKEFLAGS MFLAGS CARGO_MAKEFLAGS
for variable in $(compgen -e | grep -E '^CARGO_(PROFILE|TARGET)_' || true); do unset "$variable"; done

PATH=$TOOLS/bin:$PATH

have() { command -v "$1" >/dev/null 2>&1; }

# The name of a language as people write it.
language_name() {
  case $1 in
    rust) echo Rust ;;
    c) echo C ;;
    js) echo JavaScript ;;
    py) echo Python ;;
  esac
}

rustup_has_target() {
  local installed
  # Not by a pipe into grep -q: it closes the pipe at the first match, and that looks like a failure.
  have rustup && installed=$(rustup target list --installed 2>/dev/null) &&
    [[ $'\n'$installed$'\n' == *$'\nwasm32-wasip2\n'* ]]
}

# Prints the newest wasm-ld that is new enough.
find_wasm_ld() {
  local version newest
  newest=$(compgen -c wasm-ld- | grep -oE '^wasm-ld-[0-9]+$' | sort -t- -k3 -n | tail -n 1) || true
  for candidate in wasm-ld $newest; do
    have "$candidate" || continue
    version=$("$candidate" --version 2>/dev/null | grep -oE 'LLD [0-9]+' | grep -oE '[0-9]+') || continue
    if ((version >= MIN_LLD)); then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

debian_rust_is_complete() {
  local minor
  [[ -x $DEBIAN_RUSTC && -x $DEBIAN_CARGO ]] || return 1
  minor=$("$DEBIAN_RUSTC" --version 2>/dev/null | sed -nE 's/^rustc 1\.([0-9]+).*/\1/p')
  [[ -n $minor ]] && ((minor >= MIN_RUST_MINOR)) || return 1
  [[ -f $("$DEBIAN_RUSTC" --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock ]]
}

# Each of these is silent if all is there; else it prints what is missing, and fails.
missing_rust() {
  rustup_has_target && return
  debian_rust_is_complete || { echo "no rustup target wasm32-wasip2, and no Debian Rust with its sources"; return 1; }
  [[ -f $WASI_LIBC/libc.a ]] || { echo "no wasi-libc"; return 1; }
  find_wasm_ld >/dev/null || { echo "no wasm-ld of LLVM $MIN_LLD or later"; return 1; }
  have wasm-component-ld || { echo "no wasm-component-ld"; return 1; }
}

missing_c() {
  have clang || { echo "no clang"; return 1; }
  [[ -f $WASI_LIBC/libc.a ]] || { echo "no wasi-libc"; return 1; }
  find_wasm_ld >/dev/null || { echo "no wasm-ld of LLVM $MIN_LLD or later"; return 1; }
}

missing_node() {
  local major
  { have node && have npm; } || { echo "no node and npm"; return 1; }
  major=$(node --version 2>/dev/null | sed -nE 's/^v([0-9]+).*/\1/p')
  [[ -n $major ]] && ((major >= MIN_NODE)) || { echo "no Node.js $MIN_NODE or later"; return 1; }
}

missing_js() {
  missing_node || return
  cmp -s "$GUESTS/hello-js/package-lock.json" "$GUESTS/hello-js/node_modules/.installed-lock.json" ||
    { echo "npm packages not installed"; return 1; }
}

missing_py() {
  [[ -x $VENV/bin/componentize-py ]] &&
    cmp -s "$GUESTS/hello-py/requirements.txt" "$VENV/.installed-requirements.txt" ||
    { echo "no componentize-py"; return 1; }
}
