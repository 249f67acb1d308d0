"""Reads the line that bygone's mount logs about what it did.

    served lookup=12 read=200; pushed files=900 bytes=123; frames opened=44; fetched requests=50 bytes=123456; cache ...

Whatever the line has is taken, and nothing of it is required: a missing group or count is not there.
"""

import re

LINE = re.compile(r"\bserved( [a-z]+=\d+)*;.*")
PAIR = re.compile(r"([a-z_]+)=(\d+)")
# The kernel takes these for granted, so nobody answers them.
UNANSWERED = {"forget", "batchforget", "batch_forget", "interrupt", "destroy"}


def lines_of(path):
    """The texts of such lines in a log, oldest first."""
    try:
        log = path.read_text(errors="replace")
    except OSError:
        return []
    return [found.group() for found in map(LINE.search, log.splitlines()) if found]


def parsed(line):
    """The line as {group: {name: count}}."""
    groups = {}
    for part in line.split(";"):
        words = part.split()
        if words:
            groups[words[0]] = {name: int(count) for name, count in PAIR.findall(part)}
    return groups


def answered(counters):
    """How many requests were answered, by kind, most frequent first."""
    served = {kind: count for kind, count in counters.get("served", {}).items() if count and kind not in UNANSWERED}
    return dict(sorted(served.items(), key=lambda pair: -pair[1]))


def total(counters):
    return sum(answered(counters).values())


def since(counters, earlier):
    """What came between two such lines, group by group; the cache's sizes are as they are in the later one."""
    return {group: counts if group == "cache" else
            {name: count - earlier.get(group, {}).get(name, 0) for name, count in counts.items()}
            for group, counts in counters.items()}
