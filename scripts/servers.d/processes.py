"""Starts servers as processes of their own and ends exactly those again.

A process is known by its id and the moment it began, as the kernel tells both: an id alone may since be another's.
"""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ANSWER_SECONDS_MAX = 60
END_SECONDS_MAX = 2


class Failed(Exception):
    """A server cannot be had or does not start; the text says which and why."""


def free_ports(count):
    """So many ports of the loopback that nobody listens on now, in a row that has no meaning."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def began(pid):
    """When process `pid` began, in the kernel's ticks; None without such a process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None


def known(pid):
    return {"pid": pid, "began": began(pid)}


def run(command, environment=None):
    """Run a command that ends by itself and must succeed. Returns what it printed."""
    try:
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=environment, check=False, text=True, errors="replace")
    except FileNotFoundError:
        raise Failed(f"there is no {command[0]}; 'scripts/servers install' brings it") from None
    if done.returncode != 0:
        raise Failed(f"{command[0]} exited with {done.returncode}: {' / '.join(done.stdout.strip().splitlines()[-5:])}")
    return done.stdout


def spawn(command, log, environment=None):
    """Start a server that stays in the foreground, in a session of its own, with what it prints in `log`."""
    try:
        with open(log, "ab") as output:
            process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=output, env=environment, start_new_session=True)
    except FileNotFoundError:
        raise Failed(f"there is no {command[0]}; 'scripts/servers install' brings it") from None
    return known(process.pid)


def await_answer(what, url, log, processes):
    """Wait until a web server answers anything at all; one of whose processes has ended never will."""
    await_true(what, lambda: answers(url), log, processes)


def await_port(what, port, log, processes):
    await_true(what, lambda: accepts(port), log, processes)


def await_true(what, is_true, log, processes):
    end_by = time.monotonic() + ANSWER_SECONDS_MAX
    while time.monotonic() < end_by and all(map(is_running, processes)):
        if is_true():
            return
        time.sleep(0.1)
    lines = Path(log).read_text(errors="replace").strip().splitlines()[-5:] if Path(log).exists() else []
    raise Failed(f"{what} does not answer: {' / '.join(lines) or 'its log is empty'}")


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def send(method, url, body, headers):
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        raise Failed(f"{method} {url}: {error.code} {error.read(300).decode(errors='replace')}") from None
    except OSError as error:
        raise Failed(f"{method} {url}: {error}") from None


def is_running(process):
    """Whether it still is the process that was started, and no corpse."""
    if process["began"] is None or began(process["pid"]) != process["began"]:
        return False
    try:
        return Path(f"/proc/{process['pid']}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def end(processes):
    """End these processes and no others: asked first, the last started first, then made to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in reversed(processes):
            if is_running(process):
                os.kill(process["pid"], number)
        end_by = time.monotonic() + END_SECONDS_MAX
        while time.monotonic() < end_by and any(map(is_running, processes)):
            time.sleep(0.05)
