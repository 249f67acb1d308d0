"""The whole corpus brought back: by each contender's own restore, and by `cp -a` from bygone's mount.

What comes back is held against the corpus, by content and by time: a fast wrong answer must not enter the table.
"""

import filecmp
import os
import shutil

from machine import Failed, drop_caches, timed
from search import listed
from steps import Measured, expect, passed

# The figures of the step.
FIGURES = ["restore", "cp -a of all"]


def command_of(contender, target):
    """The command that restores the newest backup below `target`, run there; None for some kinds."""
    arguments = {
        "bygone": lambda: ["restore", "-q", "latest", "--target", target],
        "restic": lambda: ["restore", "latest", "--target", target],
        # Rustic takes the snapshot's own root for what is restored.
        "rustic": lambda: ["restore", "latest", target],
        # Its archives are named by counting, which began before this repository was made.
        "borg": lambda: ["extract", f"::{listed(contender, 'list', '--short').split()[-1]}"],
    }.get(contender.kind)
    return [contender.binary, *arguments()] if arguments else None


def restored(contender, corpus, scratch, limit):
    """The seconds that a restore into an empty folder takes, None from who has none. Raises Failed for a wrong one."""
    target = scratch / "restored"
    command = command_of(contender, target)
    if command is None:
        return None
    target.mkdir()
    drop_caches()
    # Borg restores to where it is run.
    inside = ["env", "-C", target, *command]
    try:
        seconds = timed(inside, limit, contender.environment()).seconds
        check(corpus, target / corpus.root.relative_to("/"))
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return seconds


def copied(bench, mount):
    """`cp -a` of everything, from a mount."""
    target = bench.scratch / "copied"
    try:
        measured, _ = passed(bench, mount, ["cp", "-a", mount.tree, target], "cp -a of all")
        check(bench.corpus, target)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    # Of the mount's own figures only this one is of the step.
    return Measured({"cp -a of all": measured.figures["cp -a of all"]}, measured.counters)


def check(corpus, root):
    """Are all entries there, each file of its size and time, and the largest one byte for byte?"""
    found = 0
    for directory, directories, names in os.walk(root):
        found += len(directories) + len(names)
        original = corpus.root / os.path.relpath(directory, root)
        for name in names:
            was, now = os.lstat(original / name), os.lstat(os.path.join(directory, name))
            if (was.st_size, was.st_mtime_ns // 1000) != (now.st_size, now.st_mtime_ns // 1000):
                raise Failed(f"{original / name} came back with another size or time")
    # The root itself is one, too.
    expect("entries restored", found + 1, corpus.entries)
    if not filecmp.cmp(root / corpus.image, corpus.root / corpus.image, shallow=False):
        raise Failed("the largest file came back otherwise")
