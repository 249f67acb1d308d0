"""Finds the contenders' programs, and installs those that a package registry has.

Programs built from a registry go below the benchmark's own folder, so that they are not built again next time;
nothing outside it changes, except for Debian packages. What cannot be had is named and left out.
"""

import os
import shutil
import subprocess
from pathlib import Path

from contenders import KINDS, PROGRAMS
from machine import say

# Debian's packages. borg mounts through llfuse, which is not among its hard dependencies.
DEBIAN = {"restic": ["restic", "fuse3"], "borg": ["borgbackup", "python3-llfuse", "fuse3"],
          "squashfs": ["squashfs-tools"], "squashfuse": ["squashfuse", "fuse3"]}
# rustic's default features leave mounting out.
RUSTIC = ["cargo", "install", "--locked", "rustic-rs", "--no-default-features", "--features", "mount"]
KOPIA = ["go", "install", "github.com/kopia/kopia@latest"]


def quiet(command, environment=None):
    """Whether `command` succeeded; what it prints is shown only where it failed."""
    if shutil.which(command[0]) is None:
        return False
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, env=environment)
    if done.returncode != 0:
        tail = done.stdout.decode(errors="replace").strip().splitlines()[-2:]
        say(f"  {command[0]} failed: " + " / ".join(line.strip() for line in tail))
    return done.returncode == 0


def apt_install(packages):
    """Install Debian packages; refresh the list of them first where they are not in it."""
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    known = subprocess.run(["apt-cache", "show", *packages], capture_output=True, check=False).returncode == 0
    if not known:
        quiet(["apt-get", "update"], environment)
    return quiet(install, environment)


def install(kind, folder):
    """Try to install the program of `kind`; the path of it, or None."""
    if kind in DEBIAN:
        say(f"installing {kind} from Debian ...")
        apt_install(DEBIAN[kind])
    elif kind == "rustic":
        say("building rustic from crates.io (once; this takes some minutes) ...")
        quiet([*RUSTIC, "--root", str(folder)])
    elif kind == "kopia":
        say("building kopia from the Go module proxy (once) ...")
        quiet(KOPIA, dict(os.environ, GOBIN=str(folder / "bin")))
    return find(kind, folder)


def find(kind, folder):
    """The program of `kind` on PATH, or among those built before; None without one."""
    program = PROGRAMS.get(kind, kind)
    built = folder / "bin" / program
    found = shutil.which(program)
    if found is None and built.exists():
        found = str(built)
    return found


def bygone(root):
    """Build this project's own program; its path, or None where it does not build."""
    say("building bygone ...")
    if not quiet(["cargo", "build", "--release", "--manifest-path", str(root / "Cargo.toml")]):
        return None
    return Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "release" / "bygone"


def programs(root, folder, given, only, may_install):
    """Every contender's name and program: `given` ones first, then one of each kind that they do not name.

    Returns the pairs in the order of the kinds, and the names that could not be had.
    """
    chosen, missing = [], []
    for kind in (kind.kind for kind in KINDS):
        named = [(name, path) for name, path, given_kind in given if given_kind == kind]
        if not any(name == kind for name, _ in named) and (not only or kind in only):
            path = bygone(root) if kind == "bygone" else find(kind, folder)
            if path is None and may_install and kind != "bygone":
                path = install(kind, folder)
            if path is None:
                missing.append(kind)
            else:
                named.insert(0, (kind, path))
        chosen += [(name, path) for name, path in named if not only or name in only]
    return chosen, missing
