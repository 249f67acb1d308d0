"""The steps: what is done on a mounted backup, and timed.

Each step gets a fresh mount and an empty page cache. A step returns its figures by name: seconds, or reads a second
where the name begins with "random". What a mount returns is compared with the corpus as well: a fast wrong answer
must not enter the table.
"""

import filecmp
import os
import random
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from machine import Failed, TooSlow, timed

READ_BYTES = 4096
READ_COUNT = 2000
SEQUENTIAL_BYTES = 1 << 20
# The image is read in the same places by every contender and in every round.
SEED = 20261124


class Bench:
    """What the steps share: the corpus, a folder to copy to, and the limit in seconds for one step."""

    def __init__(self, corpus, scratch, limit):
        self.corpus = corpus
        self.scratch = scratch
        self.limit = limit


def find(bench, tree):
    """Every entry's metadata, as `find` with fields that need stat."""
    seconds, printed = timed(["find", tree, "-printf", "%s %T@ %m %U\\n"], bench.limit)
    expect("entries found", printed.count("\n"), bench.corpus.entries)
    return {"find": seconds}


def tar(bench, tree):
    """Every byte, twice: the second time what the first one left in caches may serve it."""
    # GNU tar does not read files when it sees that its output is /dev/null, so a pipe stands between them.
    command = ["bash", "-o", "pipefail", "-c", 'tar -cf - -C "$1" . | cat >/dev/null', "tar", tree]
    first, _ = timed(command, bench.limit)
    second, _ = timed(command, bench.limit)
    return {"tar": first, "second tar": second}


def copy(bench, tree):
    """`cp -a` of one directory."""
    target = bench.scratch / "copy"
    try:
        seconds, _ = timed(["cp", "-a", tree / bench.corpus.copied, target], bench.limit)
        copied = sum(len(files) for _, _, files in os.walk(target))
        expect("files copied", copied, bench.corpus.copied_files)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return {"cp -a": seconds}


def read(bench, tree):
    """The largest file from its first byte to its last."""
    buffer = bytearray(SEQUENTIAL_BYTES)
    total = 0
    start = time.monotonic()
    with open(tree / bench.corpus.image, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total += count
            check_limit(start, bench.limit)
    seconds = time.monotonic() - start
    expect("bytes read", total, bench.corpus.image_bytes)
    if not filecmp.cmp(tree / bench.corpus.image, bench.corpus.root / bench.corpus.image, shallow=False):
        raise Failed("the file that was read differs from the corpus")
    return {"read": seconds}


def random_reads(bench, tree, readers):
    """READ_COUNT reads of 4 KiB at random places of the largest file, by so many readers. Reads a second."""
    pick = random.Random(SEED)
    pages = max(1, bench.corpus.image_bytes // READ_BYTES)
    places = [pick.randrange(pages) * READ_BYTES for _ in range(READ_COUNT)]
    file = os.open(tree / bench.corpus.image, os.O_RDONLY)
    try:
        start = time.monotonic()

        def one_reader(own):
            for done, place in enumerate(own):
                os.pread(file, READ_BYTES, place)
                # A peer that is too slow is rated by what it did in the time.
                if time.monotonic() - start > bench.limit:
                    return done + 1
            return len(own)

        with ThreadPoolExecutor(readers) as pool:
            done = sum(pool.map(one_reader, (places[reader::readers] for reader in range(readers))))
        rate = done / (time.monotonic() - start)
        check_places(bench, file, places[:50])
    finally:
        os.close(file)
    return {f"random {readers}": rate}


def check_places(bench, file, places):
    with open(bench.corpus.root / bench.corpus.image, "rb") as original:
        for place in places:
            original.seek(place)
            if os.pread(file, READ_BYTES, place) != original.read(READ_BYTES):
                raise Failed(f"the bytes at {place} of the image differ from the corpus")


def grep(bench, tree):
    """`grep -r` for a word that is nowhere, so that every byte is looked at."""
    done = subprocess.Popen(["grep", "-rq", "--binary-files=without-match", "no-such-word-in-there", tree],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    start = time.monotonic()
    try:
        status = done.wait(timeout=bench.limit)
    except subprocess.TimeoutExpired:
        raise TooSlow(f"more than {bench.limit:.0f} s") from None
    finally:
        done.kill()
        done.wait()
    expect("grep's exit status", status, 1)
    return {"grep -r": time.monotonic() - start}


def expect(what, found, wanted):
    if found != wanted:
        raise Failed(f"{what}: {found}, not {wanted}")


def check_limit(start, limit):
    if time.monotonic() - start > limit:
        raise TooSlow(f"more than {limit:.0f} s")


# The steps by the name that --steps takes, in the order in which they are done; the first five are the default.
STEPS = {
    "find": find,
    "tar": tar,
    "cp": copy,
    "read": read,
    "random": lambda bench, tree: random_reads(bench, tree, 1),
    "random8": lambda bench, tree: random_reads(bench, tree, 8),
    "grep": grep,
}
DEFAULT_STEPS = list(STEPS)[:5]
# What each step measures, for the report of one that failed.
FIGURES = {"find": ["find"], "tar": ["tar", "second tar"], "cp": ["cp -a"], "read": ["read"],
           "random": ["random 1"], "random8": ["random 8"], "grep": ["grep -r"]}
