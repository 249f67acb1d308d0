"""What the benchmark asks of the machine: run and time commands, drop the page cache, look at processes.

Processes are signalled by the id of a child of this process, never by name.
Not here: mounts (mounts.py), what a contender's commands are (contenders.py), what is measured (steps.py).
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A command or a step did not do what it should; the text says which and how."""


class TooSlow(Failed):
    """A step took longer than the limit that the user set."""


class Done(NamedTuple):
    """A command that ended well: seconds it took, what it printed, and CPU seconds of it and its children."""

    seconds: float
    printed: str
    cpu: float


def say(text):
    print(text, file=sys.stderr, flush=True)


def drop_caches():
    """Write dirty pages out, so that nobody pays for another's writes, and empty the page, dentry and inode caches."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def cache_drops():
    """How often anybody has had the page cache dropped since the machine began."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("drop_pagecache ")), 0)


def need_space(folder, wanted, files, purpose):
    """Raise Failed where the disk of `folder` has less than `wanted` bytes or so many new files free."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise Failed(f"{purpose} needs {wanted / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free: "
                     f"{(wanted - free) / 1e9:.1f} GB are missing; --work names another disk")
    inodes = os.statvfs(folder).f_favail
    if 0 < inodes < files:
        raise Failed(f"{purpose} needs {files:,} more files in {folder}, which has room for {inodes:,}")


def last_lines(text, count=5):
    return "\n".join(text.strip().splitlines()[-count:])


def end_group(process):
    """End a child that was started as a session of its own, with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def children_cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(command, limit, environment=None, statuses=(0,)):
    """Run `command`, which is to exit with one of `statuses`; `limit` is in seconds. Returns a Done.

    Raises TooSlow past the limit, Failed for another exit status.
    """
    cpu = children_cpu_seconds()
    start = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise TooSlow(f"more than {limit:.0f} s") from None
    finally:
        end_group(process)
    seconds = time.monotonic() - start
    printed = printed.decode(errors="replace")
    if process.returncode not in statuses:
        raise Failed(f"{command[0]} exited with {process.returncode}: {last_lines(printed)}")
    return Done(seconds, printed, children_cpu_seconds() - cpu)


def piped(script, *words):
    """The command that runs a pipeline of bash, failing with any part of it; `words` are its $1, $2, ..."""
    return ["bash", "-o", "pipefail", "-c", script, "bash", *words]


def processes_of(session):
    """The ids of the processes of a session, and the fields of each one's /proc/ID/stat behind its name."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == str(session):
            yield int(path.parent.name), fields


def cpu_seconds(session):
    """CPU seconds, in user and kernel mode, that the processes of a session have used so far."""
    return sum(int(fields[11]) + int(fields[12]) for _, fields in processes_of(session)) / TICKS_PER_SECOND


def peak_memory_bytes(session):
    """The sum of the largest resident sizes that the processes of a session ever had; None without a process."""
    found = [from_status(pid, "VmHWM:") for pid, _ in processes_of(session)]
    found = [int(value.split()[0]) * 1024 for value in found if value]
    return sum(found) if found else None


def from_status(pid, field):
    """A field of /proc/ID/status as text; None where there is no such process or field."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), None)


def catches(pid, number):
    """Whether process `pid` handles signal `number` by itself."""
    caught = from_status(pid, "SigCgt:")
    return caught is not None and bool(int(caught, 16) >> (number - 1) & 1)


def read_calls(pid):
    """How often process `pid` has read from anything: each request of the kernel to a FUSE process is one such call."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("syscr:")), None)
