"""The tree that is backed up: kernel sources and a disk image by default, or any tree that is given.

A corpus is only read by the benchmark. The default one is built in a folder of its own and kept for the next run.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from install import apt_install
from machine import Failed, need_space, say

SOURCE = Path("/usr/src/linux-source-6.1.tar.xz")
TREES = ["drivers/net", "fs", "kernel", "net", "Documentation"]
# What fills the image: other parts of the same sources, about 230 MiB of its 300 MB.
IMAGE_TREES = ["arch", "include", "sound"]
IMAGE_BYTES = 300_000_000 // 4096 * 4096
# Fixed, so that two corpora of one Debian package are the same.
IMAGE_UUID = "6d0c9d4e-0b5e-4c43-9a83-3b1f6c7d2a10"
# The directory that `cp -a` copies is the one whose number of files is closest to this: fs in the default corpus.
COPY_FILES = 2078
# bygone reads a file again next time whose ctime is this close to its reading: such a file is not "unchanged" yet.
SETTLED_SECONDS = 61


class Corpus:
    """A tree and what the steps need to know of it: `files`, `bytes`, `copied` (a directory), `image` (a file)."""

    def __init__(self, root):
        self.root = Path(root).resolve()
        self.entries = self.files = self.bytes = self.image_bytes = 0
        self.image = self.copied = None
        self.copied_files = 0
        self.newest_change = 0.0
        self._count(self.root)
        if self.image is None:
            raise Failed(f"there is no file to read in {self.root}")

    def _count(self, directory):
        """Count what is below `directory`, noting the largest file and the directory to copy. Returns its files."""
        files = 0
        self.entries += 1
        for entry in os.scandir(directory):
            status = entry.stat(follow_symlinks=False)
            self.newest_change = max(self.newest_change, status.st_ctime)
            if entry.is_dir(follow_symlinks=False):
                files += self._count(entry.path)
                continue
            files += 1
            self.entries += 1
            if entry.is_file(follow_symlinks=False):
                self.files += 1
                self.bytes += status.st_size
                if status.st_size > self.image_bytes:
                    self.image_bytes = status.st_size
                    self.image = Path(entry.path).relative_to(self.root)
        if self.copied is None or abs(files - COPY_FILES) < abs(self.copied_files - COPY_FILES):
            self.copied, self.copied_files = Path(directory).relative_to(self.root), files
        return files

    def wait_until_settled(self):
        """Wait until the newest file is old enough to count as unchanged."""
        rest = self.newest_change + SETTLED_SECONDS - time.time()
        if rest > 0:
            say(f"waiting {rest:.0f} s, until the newest file of the corpus has settled ...")
            time.sleep(rest)


def default_corpus(folder):
    """The default corpus in `folder`, built there unless it was before."""
    root = Path(folder)
    if root.is_dir() and any(root.iterdir()):
        return Corpus(root)
    if not SOURCE.exists():
        say("installing linux-source-6.1 from Debian ...")
        apt_install(["linux-source-6.1", "xz-utils"])
    if not SOURCE.exists():
        raise Failed(f"{SOURCE} is missing: `apt-get install linux-source-6.1`, or name a tree to back up")
    root.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place and renamed when whole, so that an interrupted build is never taken for a corpus.
    building = Path(tempfile.mkdtemp(prefix="building-", dir=root.parent))
    try:
        say("unpacking kernel sources and making the image ...")
        unpack(TREES, building / "corpus")
        unpack(IMAGE_TREES, building / "image")
        make_image(building / "image", building / "corpus" / "disk.img")
        if root.is_dir():
            root.rmdir()
        (building / "corpus").rename(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Corpus(root)


def unpack(trees, target):
    target.mkdir()
    command = ["tar", "-xJf", SOURCE, "-C", target, "--strip-components=1",
               *(f"linux-source-6.1/{tree}" for tree in trees)]
    subprocess.run(command, check=True)


def make_image(content, image):
    """An ext4 image of IMAGE_BYTES with the files of `content` in it; no mount is needed."""
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-U", IMAGE_UUID, "-E", f"hash_seed={IMAGE_UUID}", "-m", "0",
                    "-d", content, image], check=True)
