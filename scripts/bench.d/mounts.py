"""Mounts: starting a contender's, waiting until it answers, asking what it did, taking it away.

Invariant: nothing is unmounted that `Mounts` did not mount, and every mount point lies below the benchmark's own work
folder.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import counters
from machine import Failed, catches, cpu_seconds, end_group, last_lines, peak_memory_bytes, read_calls

# A mount that has not answered after this long counts as failed: the slowest peer needs about a second.
READY_SECONDS_MAX = 60.0
# Between two looks at a mount that is starting: short against the fastest (20 ms), long against the looking itself.
READY_POLL_SECONDS = 0.002
# How long a mount may stay busy after the last reader has gone before its process is ended.
UNMOUNT_SECONDS_MAX = 15.0
# How long a mount may take to log what it did once it is asked to.
TELL_SECONDS_MAX = 1.0


def is_mounted(path):
    """Whether a file system is mounted at exactly `path` (without touching it: a dead mount does not answer)."""
    wanted = os.fsencode(path)
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # The kernel writes blanks in a mount point as \040; no path of ours has any.
        if line.split(b" ")[4] == wanted:
            return True
    return False


class Mounts:
    """The mounts of this run. `folder` is the work folder that all of them lie below."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        assert len(self.folder.parts) > 2, "the work folder is one that the benchmark made"
        self.live = {}

    def start(self, contender, corpus):
        """Mount `contender`'s latest backup of `corpus`. Returns a Mount, whose `ready` is in seconds."""
        return self.start_as(contender, contender.mount_command, lambda point: contender.tree(point, corpus))

    def start_as(self, contender, command_at, tree_at):
        """Mount by the command that `command_at` gives for a mount point, until `tree_at` of it can be listed."""
        point = self.folder / "mounts" / contender.name
        point.mkdir(parents=True, exist_ok=True)
        if contender.mount_log is not None:
            contender.mount_log.unlink(missing_ok=True)
        log = (self.folder / f"{contender.name}.log").open("ab+")
        start = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command_at(point)], stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, env=contender.environment(), start_new_session=True)
        mount = Mount(point, process, log, contender.mount_log, start)
        self.live[point] = mount
        try:
            mount.wait(lambda: tree_at(point), contender.stays)
        except BaseException:
            self.stop(mount)
            raise
        return mount

    def stop(self, mount):
        """Unmount, and see the process that served the mount end."""
        assert self.folder in mount.point.parents, "only mounts below the work folder are unmounted"
        deadline = time.monotonic() + UNMOUNT_SECONDS_MAX
        while is_mounted(mount.point) and time.monotonic() < deadline:
            subprocess.run(["umount", mount.point], capture_output=True, check=False)
            if is_mounted(mount.point):
                time.sleep(0.1)
        try:
            mount.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            end_group(mount.process)
        if is_mounted(mount.point):
            subprocess.run(["umount", "--lazy", mount.point], check=False)
        mount.output.close()
        self.live.pop(mount.point, None)

    def stop_all(self):
        for mount in list(self.live.values()):
            self.stop(mount)


class Mount:
    """One mounted backup: where, by which process, how fast it was there, and the corpus's tree in it.

    `log` is the file that it logs to, or None for a contender whose log says nothing of use; `start` the time when the
    command was given, by the monotonic clock.
    """

    def __init__(self, point, process, output, log, start):
        self.point = point
        self.process = process
        self.output = output
        self.log = log
        self.start = start
        self.ready = None
        self.tree = None

    def wait(self, find_tree, stays):
        """Wait until the mount lists the tree; `stays` says whether the command serves it or ends once mounted."""
        while time.monotonic() - self.start < READY_SECONDS_MAX:
            if is_mounted(self.point):
                try:
                    self.tree = find_tree()
                    os.listdir(self.tree)
                    self.ready = time.monotonic() - self.start
                    return
                except OSError:
                    pass
            ended = self.process.poll()
            if ended is not None and (stays or ended != 0):
                raise Failed(f"the mount ended with {ended}: {self.said()}")
            time.sleep(READY_POLL_SECONDS)
        raise Failed(f"no answer from the mount after {READY_SECONDS_MAX:.0f} s: {self.said()}")

    def peak_memory_bytes(self):
        return peak_memory_bytes(self.process.pid)

    def cpu_seconds(self):
        """What the mount's processes have used so far; nothing for a file system in the kernel."""
        return cpu_seconds(self.process.pid)

    def read_calls(self):
        """An upper bound of the requests so far, as the mount's own reads of its repository are among them."""
        return read_calls(self.process.pid)

    def counters(self):
        """What the mount did so far, as it logs it when SIGUSR1 comes. None where it does not."""
        if self.log is None or not catches(self.process.pid, signal.SIGUSR1):
            return None
        before = len(counters.lines_of(self.log))
        os.kill(self.process.pid, signal.SIGUSR1)
        deadline = time.monotonic() + TELL_SECONDS_MAX
        while time.monotonic() < deadline:
            lines = counters.lines_of(self.log)
            if len(lines) > before:
                return counters.parsed(lines[-1])
            time.sleep(0.01)
        return None

    def last_counters(self):
        """The same of a mount that has been taken away: what it logged at its end."""
        lines = counters.lines_of(self.log) if self.log is not None else []
        return counters.parsed(lines[-1]) if lines else None

    def said(self):
        """The end of what the mount printed and logged."""
        self.output.seek(0)
        printed = self.output.read().decode(errors="replace")
        if self.log is not None and self.log.exists():
            printed += self.log.read_text(errors="replace")
        return last_lines(printed)
