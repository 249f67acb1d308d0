"""The steps: what is done on a mounted backup, and timed.

Each step gets a fresh mount and an empty page cache. A step returns its figures by name: seconds, CPU seconds where the
name begins with "cpu", reads or bytes a second where it begins with "random" or "streams". What a mount returns is
compared with the corpus as well: a fast wrong answer must not enter the table.
"""

import filecmp
import multiprocessing
import os
import random
import shutil
import time
from dataclasses import dataclass, field

from counters import since
from machine import Failed, TooSlow, piped, timed
from trees import SEED

READ_BYTES = 4096
READ_COUNT = 2000
SEQUENTIAL_BYTES = 1 << 20
# Readers are processes, so that they do not wait for each other inside of this one.
FORK = multiprocessing.get_context("fork")


class Bench:
    """What the steps share: the corpus, a folder to copy to, and the limit in seconds for one step."""

    def __init__(self, corpus, scratch, limit):
        self.corpus = corpus
        self.scratch = scratch
        self.limit = limit


@dataclass
class Measured:
    """What a step found: figures by name, and what the mount did meanwhile by the name of the pass."""

    figures: dict = field(default_factory=dict)
    counters: dict = field(default_factory=dict)


def passed(bench, mount, command, name, statuses=(0,)):
    """Time `command`, and the CPU of the mount and of the command together. Returns Measured and the output."""
    before = mount.cpu_seconds()
    done = timed(command, bench.limit, statuses=statuses)
    cpu = done.cpu + mount.cpu_seconds() - before
    return Measured({name: done.seconds, f"cpu {name}": cpu}, {name: mount.counters()}), done.printed


def find_command(*trees):
    """Every entry's metadata, as `find` with fields that need stat; prints how many there are."""
    return piped('find "$@" -printf "%s %T@ %m %U\\n" | wc -l', *trees)


def tar_command(tree):
    # GNU tar does not read files when it sees that its output is /dev/null, so a pipe stands between them.
    return piped('tar -cf - -C "$1" . | cat >/dev/null', tree)


def find(bench, mount):
    measured, printed = passed(bench, mount, find_command(mount.tree), "find")
    expect("entries found", int(printed), bench.corpus.entries)
    return measured


def tar(bench, mount):
    """Every byte, then everything once more: what the first pass left in caches may serve the second."""
    measured, _ = passed(bench, mount, tar_command(mount.tree), "tar")
    for name, command in (("second tar", tar_command(mount.tree)), ("second find", find_command(mount.tree))):
        reads, earlier = mount.read_calls(), mount.counters()
        again, _ = passed(bench, mount, command, name)
        measured.figures.update(again.figures)
        later = again.counters[name]
        measured.counters[name] = since(later, earlier) if later and earlier else None
        if reads is not None:
            measured.figures[f"reads in {name}"] = mount.read_calls() - reads
    return measured


def copy(bench, mount):
    """`cp -a` of one directory."""
    target = bench.scratch / "copy"
    try:
        measured, _ = passed(bench, mount, ["cp", "-a", mount.tree / bench.corpus.copied, target], "cp -a")
        copied = sum(len(files) for _, _, files in os.walk(target))
        expect("files copied", copied, bench.corpus.copied_files)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return measured


def read(bench, mount):
    """The largest file from its first byte to its last."""
    path = mount.tree / bench.corpus.image
    seconds, total = read_whole(path, bench.limit)
    told = mount.counters()
    expect("bytes read", total, bench.corpus.image_bytes)
    if not filecmp.cmp(path, bench.corpus.root / bench.corpus.image, shallow=False):
        raise Failed("the file that was read differs from the corpus")
    return Measured({"read": seconds}, {"read": told})


def read_whole(path, limit):
    """Read a file in its order. Returns seconds and bytes."""
    buffer = bytearray(SEQUENTIAL_BYTES)
    total = 0
    start = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total += count
            check_limit(start, limit)
    return time.monotonic() - start, total


def at_once(jobs):
    """Do each job, a function without arguments, in a process of its own, all of them let go at the same moment.

    Returns the seconds until the last was done, and what the jobs returned, in their order.
    """
    gate = FORK.Barrier(len(jobs) + 1)

    def work(job, sender):
        try:
            gate.wait()
            sender.send(job())
        except (OSError, Failed) as error:
            sender.send(Failed(str(error)))

    pipes = [FORK.Pipe(duplex=False) for _ in jobs]
    workers = [FORK.Process(target=work, args=(job, sender), daemon=True)
               for job, (_, sender) in zip(jobs, pipes, strict=True)]
    for worker in workers:
        worker.start()
    gate.wait()
    start = time.monotonic()
    results = [receiver.recv() for receiver, _ in pipes]
    seconds = time.monotonic() - start
    for worker in workers:
        worker.join()
    failed = next((result for result in results if isinstance(result, Failed)), None)
    if failed is not None:
        raise failed
    return seconds, results


def random_reads(bench, mount, readers):
    """READ_COUNT reads of 4 KiB at random places of the largest file, by so many readers. Reads a second."""
    pick = random.Random(SEED)
    pages = max(1, bench.corpus.image_bytes // READ_BYTES)
    places = [pick.randrange(pages) * READ_BYTES for _ in range(READ_COUNT)]
    file = os.open(mount.tree / bench.corpus.image, os.O_RDONLY)
    try:
        jobs = [lambda own=places[reader::readers]: read_places(file, own, bench.limit) for reader in range(readers)]
        seconds, counts = at_once(jobs)
        told = mount.counters()
        check_places(bench, file, places[:50])
    finally:
        os.close(file)
    name = f"random {readers}"
    return Measured({name: sum(counts) / seconds}, {name: told})


def read_places(file, places, limit):
    """Read at each place in turn. Returns how many were read: who is too slow is rated by what it did in the time."""
    start = time.monotonic()
    for done, place in enumerate(places):
        os.pread(file, READ_BYTES, place)
        if time.monotonic() - start > limit:
            return done + 1
    return len(places)


def check_places(bench, file, places):
    with open(bench.corpus.root / bench.corpus.image, "rb") as original:
        for place in places:
            original.seek(place)
            if os.pread(file, READ_BYTES, place) != original.read(READ_BYTES):
                raise Failed(f"the bytes at {place} of the image differ from the corpus")


def grep(bench, mount):
    """`grep -r` for a word that is nowhere, so that every byte is looked at."""
    # Half the word is written in another way than it is sought, lest a corpus that holds this file have it.
    command = ["grep", "-rq", "--binary-files=without-match", "no-such-word" + "-in-there", mount.tree]
    return passed(bench, mount, command, "grep -r", statuses=(1,))[0]


def one_stream(bench, mount):
    """The big files one after the other, by one reader: bytes a second."""
    seconds, results = at_once([lambda: [read_whole(path, bench.limit)[1] for path in big_paths(bench, mount)]])
    return Measured({"streams 1": sum(results[0]) / seconds}, {"streams 1": mount.counters()})


def all_streams(bench, mount):
    """The big files, each by a reader of its own: bytes a second, and how many times the fastest's the slowest took."""
    seconds, results = at_once([lambda path=path: read_whole(path, bench.limit) for path in big_paths(bench, mount)])
    expect("bytes read", sum(count for _, count in results), bench.corpus.bytes)
    times = [own for own, _ in results]
    return Measured({"streams 8": bench.corpus.bytes / seconds, "streams slowest": max(times) / min(times)},
                    {"streams 8": mount.counters()})


def big_paths(bench, mount):
    return sorted(mount.tree / name for name in os.listdir(bench.corpus.root))


def expect(what, found, wanted):
    if found != wanted:
        raise Failed(f"{what}: {found}, not {wanted}")


def check_limit(start, limit):
    if time.monotonic() - start > limit:
        raise TooSlow(f"more than {limit:.0f} s")


# The steps on one mounted backup by the name that --steps takes, in the order in which they are done.
STEPS = {
    "find": find,
    "tar": tar,
    "cp": copy,
    "read": read,
    "random": lambda bench, mount: random_reads(bench, mount, 1),
    "random8": lambda bench, mount: random_reads(bench, mount, 8),
    "grep": grep,
}
# What each step measures, for the report of one that failed.
FIGURES = {"find": ["find"], "tar": ["tar", "second tar", "second find"], "cp": ["cp -a"], "read": ["read"],
           "random": ["random 1"], "random8": ["random 8"], "grep": ["grep -r"]}
