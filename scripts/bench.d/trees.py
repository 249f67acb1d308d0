"""Trees that the benchmark makes: a copy of the corpus to change, its changes, eight big files, very many small ones.

All of it is the same in every run: what is random comes from fixed seeds.
"""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

from corpus import Corpus
from machine import Failed, need_space, say

SEED = 20261124
# So many of the files are changed between two points.
CHANGED_SHARE = 0.01
BIG_FILES = 8
BIG_STRIPE_BYTES = 1 << 20
# Below this a file is read too fast for its time to mean anything.
BIG_BYTES_MIN = 8 << 20
SMALL_BYTES_MAX = 4096
SMALL_PER_DIRECTORY = 1000
# ext4 gives a file a block of this size, and a directory entry and an inode besides.
BLOCK_BYTES = 4096
ENTRY_BYTES = 320


class WorkingCopy(Corpus):
    """A copy of a corpus, the corpus itself being only read."""

    def __init__(self, corpus, root, without_image=False):
        say(f"copying {corpus.root} ...")
        need_space(root.parent, corpus.bytes + corpus.entries * BLOCK_BYTES, corpus.entries, "the copy of the corpus")
        subprocess.run(["cp", "-a", "--reflink=auto", corpus.root, root], check=True)
        if without_image:
            (root / corpus.image).unlink()
        super().__init__(root)
        self.changeable = sorted(path for path in self._files() if path != self.root / self.image)

    def _files(self):
        for directory, _, names in os.walk(self.root):
            for path in (Path(directory, name) for name in names):
                if path.is_file() and not path.is_symlink():
                    yield path

    def change(self, *seed):
        """Insert a line into 1% of the files, at random; the largest is never one of them. Returns the files."""
        pick = random.Random(repr((SEED, *seed)))
        chosen = pick.sample(self.changeable, max(1, round(len(self.changeable) * CHANGED_SHARE)))
        for path in chosen:
            content = path.read_bytes()
            place = content.rfind(b"\n", 0, pick.randrange(len(content) + 1)) + 1
            line = f"changed {pick.getrandbits(128):032x}\n".encode()
            path.write_bytes(content[:place] + line + content[place:])
        self.newest_change = time.time()
        os.sync()
        return sorted(chosen)


def compressed_bytes(files):
    """What files take when zstd compresses them at level 3: each by itself, and all of them as one; None without it."""
    if shutil.which("zstd") is None:
        return None, None
    contents = [path.read_bytes() for path in files]
    return sum(len(zstd(content)) for content in contents), len(zstd(b"".join(contents)))


def zstd(content):
    return subprocess.run(["zstd", "-3", "-q", "-c"], input=content, stdout=subprocess.PIPE, check=True).stdout


def big_files(corpus, root):
    """Eight files in `root` that hold the corpus's largest file in turns of 1 MiB, so that they are alike to read.

    None where that file is too small for it. Returns the corpus that they are.
    """
    if corpus.image_bytes < BIG_FILES * BIG_BYTES_MIN:
        return None
    root.mkdir()
    files = [(root / f"part-{number}").open("wb") for number in range(BIG_FILES)]
    with open(corpus.root / corpus.image, "rb") as image:
        for stripe in range(corpus.image_bytes // BIG_STRIPE_BYTES // BIG_FILES * BIG_FILES):
            files[stripe % BIG_FILES].write(image.read(BIG_STRIPE_BYTES))
    for file in files:
        file.close()
    return Corpus(root)


def small_files(root, files, directories):
    """A tree of so many files of 0 to 4 KiB, evenly in so many directories; no two of them are alike.

    Sizes lie near the small end (800 bytes on the average), contents are words.
    """
    pick = random.Random(SEED)
    words = ["".join(pick.choices("abcdefghijklmnopqrstuvwxyz", k=pick.randrange(2, 10))) for _ in range(4000)]
    text = " ".join(pick.choices(words, k=200_000)).encode()
    done = 0
    for number in range(directories):
        directory = root / f"directory-{number:05d}"
        directory.mkdir(parents=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for _ in range(files // directories + (number < files % directories)):
                write_small(handle, f"file-{done:07d}", text, pick)
                done += 1
                if done % 100_000 == 0:
                    say(f"  {done:,} files")
        finally:
            os.close(handle)


def write_small(directory, name, text, pick):
    size = int(SMALL_BYTES_MAX * pick.random() ** 4)
    place = pick.randrange(len(text) - SMALL_BYTES_MAX)
    content = (name.encode() + b"\n" + text[place:place + size])[:size]
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory)
    try:
        os.write(file, content)
    finally:
        os.close(file)


def remove(folder):
    """Take a tree away that the benchmark made, unless something is still mounted in it."""
    mounted = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left = [point for point in mounted if point.startswith(f"{folder}/")]
    if left:
        raise Failed(f"still mounted, so {folder} stays: {', '.join(left)}")
    shutil.rmtree(folder, ignore_errors=True)
