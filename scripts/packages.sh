# Sourced by the other scripts: sees to it that programs are there, installing Debian packages for those that are not.
# shellcheck shell=bash

# need PROGRAM:PACKAGE...  Returns 1, having said what to do, where something is missing and cannot be installed.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair#*:}")
    done
    if ((${#missing[@]} == 0)); then
        return 0
    fi
    if ((EUID != 0)) || ! command -v apt-get >/dev/null 2>&1; then
        echo "missing on this machine: ${missing[*]}" >&2
        echo "on Debian, as root: apt-get install ${missing[*]}" >&2
        return 1
    fi
    echo "installing from Debian: ${missing[*]}"
    # The list of packages may be older than the packages, or not there at all: fetch it only then.
    if install_packages "${missing[@]}" || { apt-get -qq update && install_packages "${missing[@]}"; }; then
        return 0
    fi
    echo "apt-get could not install ${missing[*]}; install them by hand and try again" >&2
    return 1
}

install_packages() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

# need_fuse  Returns 1, having said what to do, where the kernel's FUSE device is missing or may not be opened.
need_fuse() {
    if [[ ! -e /dev/fuse ]]; then
        echo "/dev/fuse is missing, and nothing can be mounted without it: as root, 'modprobe fuse';" >&2
        echo "in a container, start it with '--device /dev/fuse --cap-add SYS_ADMIN'" >&2
        return 1
    fi
    if [[ ! -r /dev/fuse || ! -w /dev/fuse ]]; then
        echo "/dev/fuse may not be opened by $(id -un): run this as root, or 'chmod 666 /dev/fuse' first" >&2
        return 1
    fi
}
