"""What the benchmark asks of the machine: run and time commands, drop the page cache, mount and unmount.

Invariants: nothing is unmounted that `Mounts` did not mount, and every mount point lies below the benchmark's own
work folder. Processes are signalled by the id of a child of this process, never by name.
Not here: what a contender's commands are (contenders.py), what is measured (steps.py).
"""

import os
import signal
import subprocess
import time
from pathlib import Path

# A mount that has not answered after this long counts as failed: the slowest peer needs about a second.
READY_SECONDS_MAX = 60.0
# Between two looks at a mount that is starting: short against the fastest (20 ms), long against the looking itself.
READY_POLL_SECONDS = 0.002
# How long a mount may stay busy after the last reader has gone before its process is ended.
UNMOUNT_SECONDS_MAX = 15.0


class Failed(Exception):
    """A command or a step did not do what it should; the text says which and how."""


class TooSlow(Failed):
    """A step took longer than the limit that the user set."""


def drop_caches():
    """Write dirty pages out and empty the kernel's page, dentry and inode caches."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


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


def timed(command, limit, environment=None, directory=None):
    """Run `command`; return its seconds and what it printed. `limit` is in seconds.

    Raises TooSlow past the limit, Failed for an exit status other than 0.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=environment, cwd=directory, start_new_session=True)
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise TooSlow(f"more than {limit:.0f} s") from None
    finally:
        end_group(process)
    seconds = time.monotonic() - start
    printed = printed.decode(errors="replace")
    if process.returncode != 0:
        raise Failed(f"{command[0]} exited with {process.returncode}: {last_lines(printed)}")
    return seconds, printed


def is_mounted(path):
    """Whether a file system is mounted at exactly `path` (without touching it: a dead mount does not answer)."""
    wanted = os.fsencode(path)
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # The kernel writes blanks in a mount point as \040; no path of ours has any.
        if line.split(b" ")[4] == wanted:
            return True
    return False


def peak_memory_bytes(pid):
    """The largest resident size that process `pid` ever had; None where there is no such process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


class Mounts:
    """The mounts of this run. `folder` is the work folder that all of them lie below."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        assert len(self.folder.parts) > 2, "the work folder is one that the benchmark made"
        self.live = {}

    def start(self, contender, corpus):
        """Mount `contender`'s latest backup of `corpus`. Returns a Mount, whose `ready` is in seconds."""
        point = self.folder / "mounts" / contender.name
        point.mkdir(parents=True, exist_ok=True)
        log = (self.folder / f"{contender.name}.log").open("ab+")
        start = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in contender.mount_command(point)], stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, env=contender.environment(), start_new_session=True)
        mount = Mount(point, process, log)
        self.live[point] = mount
        try:
            mount.tree = mount.wait(lambda: contender.tree(point, corpus), start, contender.stays)
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
        mount.log.close()
        self.live.pop(mount.point, None)

    def stop_all(self):
        for mount in list(self.live.values()):
            self.stop(mount)


class Mount:
    """One mounted backup: where, by which process, how fast it was there, and the corpus's tree in it."""

    def __init__(self, point, process, log):
        self.point = point
        self.process = process
        self.log = log
        self.ready = None
        self.tree = None

    def wait(self, find_tree, start, stays):
        """Wait until the mount lists the corpus; `stays` says whether the command serves it or ends once mounted."""
        while time.monotonic() - start < READY_SECONDS_MAX:
            if is_mounted(self.point):
                try:
                    tree = find_tree()
                    os.listdir(tree)
                    self.ready = time.monotonic() - start
                    return tree
                except OSError:
                    pass
            ended = self.process.poll()
            if ended is not None and (stays or ended != 0):
                raise Failed(f"the mount ended with {ended}: {self.log_tail()}")
            time.sleep(READY_POLL_SECONDS)
        raise Failed(f"no answer from the mount after {READY_SECONDS_MAX:.0f} s: {self.log_tail()}")

    def peak_memory_bytes(self):
        return peak_memory_bytes(self.process.pid)

    def log_tail(self):
        self.log.seek(0)
        return last_lines(self.log.read().decode(errors="replace"))
