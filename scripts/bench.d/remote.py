"""Repositories far away: S3 from Ceph's radosgw, behind a proxy that delays every answer and shares a slow line.

Backups go to the gateway directly, since they are not what is measured; mounts go through the proxy. "Cold" is a client
that knows nothing: no cache, no state, an empty page cache. "Warm" is the same client after an unmount, with its own
caches and an empty page cache.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from statistics import median

from contenders import Bygone, Restic, Rustic
from machine import Failed, TooSlow, drop_caches, end_group, say, timed
from mounts import Mounts
from report import MIB, table
from targets import at_most, below, rows_table

DELAY_MS = 40
LINE_BYTES_PER_SECOND = 20_000_000
SCRIPTS = Path(__file__).resolve().parent.parent
SETUP_SECONDS_MAX = 600


class Servers:
    """The gateway, and the proxy before it; both end with this process, however it ends."""

    def __init__(self):
        timed([SCRIPTS / "servers", "install", "radosgw"], SETUP_SECONDS_MAX)
        self.gateway = subprocess.Popen([SCRIPTS / "servers", "run", "radosgw"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        line = self.gateway.stdout.readline()
        if not line:
            raise Failed("radosgw does not start")
        self.reached = json.loads(line)["radosgw"]
        self.direct = self.reached["endpoint"]
        self.proxy = subprocess.Popen(
            [sys.executable, SCRIPTS / "delay-proxy", self.direct.removeprefix("http://"), "--delay", str(DELAY_MS),
             "--rate", str(LINE_BYTES_PER_SECOND / 1e6)], stdout=subprocess.PIPE, start_new_session=True)
        self.far = "http://" + json.loads(self.proxy.stdout.readline())["listens"]

    def carried(self):
        """What went through the proxy since the last call: connections, requests, bytes_up and bytes_down."""
        self.proxy.send_signal(signal.SIGUSR1)
        return json.loads(self.proxy.stdout.readline())

    def stop(self):
        end_group(self.proxy)
        self.gateway.stdin.close()
        self.gateway.wait(timeout=30)

    def credentials(self):
        return {"AWS_ACCESS_KEY_ID": self.reached["access_key_id"], "AWS_REGION": self.reached["region"],
                "AWS_SECRET_ACCESS_KEY": self.reached["secret_access_key"], "AWS_DEFAULT_REGION": self.reached["region"]}


class Far:
    """What the contenders have in common here: a place in the bucket, and which way leads to it."""

    servers = None
    is_far = False

    def endpoint(self):
        return self.servers.far if self.is_far else self.servers.direct

    def forget(self):
        """What the client knows of the repository goes."""
        for name in ("cache", "state"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


class FarBygone(Far, Bygone):
    def settings(self):
        self.repository = f"s3://{self.servers.reached['bucket']}/{self.name}"
        return {**super().settings(), **self.servers.credentials(), "AWS_ENDPOINT_URL": self.endpoint()}

    def create(self, corpus):
        self.settings()
        super().create(corpus)


class FarRestic(Far, Restic):
    def settings(self):
        self.repository = f"s3:{self.endpoint()}/{self.servers.reached['bucket']}/{self.name}"
        return {**super().settings(), **self.servers.credentials()}


class FarRustic(Far, Rustic):
    def settings(self):
        self.repository = "opendal:s3"
        folder = self.folder / ".config" / "rustic"
        folder.mkdir(parents=True, exist_ok=True)
        reached = self.servers.reached
        (folder / "rustic.toml").write_text("[repository.options]\n" + "".join(
            f'{key} = "{value}"\n' for key, value in {
                "bucket": reached["bucket"], "root": f"/{self.name}", "endpoint": self.endpoint(),
                "region": reached["region"], "access_key_id": reached["access_key_id"],
                "secret_access_key": reached["secret_access_key"]}.items()))
        return super().settings()


FAR = {"bygone": FarBygone, "restic": FarRestic, "rustic": FarRustic}


class Remote:
    """One run. `rows` are the figures to reach, `values` every sample."""

    def __init__(self, pairs, corpus, folder, rounds, limit):
        self.corpus = corpus
        self.folder = folder
        self.rounds = rounds
        self.limit = limit
        self.mounts = Mounts(folder)
        self.values = {}
        self.facts = []
        self.servers = Servers()
        Far.servers = self.servers
        self.contenders = [FAR[kind](name, path, folder) for name, path, kind in pairs if kind in FAR]
        self.local = next((Bygone("bygone-local", one.binary, folder) for one in self.contenders
                           if one.kind == "bygone"), None)
        self.sealed = {}

    def stop(self):
        self.mounts.stop_all()
        self.servers.stop()

    def note(self, name, value):
        self.values.setdefault(name, []).append(value)
        say(f"  {name:<40} {value:.3f}")

    def median(self, name):
        return median(self.values[name]) if name in self.values else None

    def whole(self):
        self.prepare()
        for number in range(self.rounds):
            say(f"round {number + 1} of {self.rounds}")
            turn = number % len(self.contenders)
            for contender in self.contenders[turn:] + self.contenders[:turn]:
                self.attempt(contender, self.own if contender.kind == "bygone" else self.peer)
            self.attempt(self.local, self.near)

    def prepare(self):
        """Everyone's backup, and what the parts that are read take when they are sealed."""
        for contender in [*self.contenders, self.local]:
            if contender is None:
                continue
            say(f"backing up: {contender.name}")
            contender.create(self.corpus.root)
            timed(contender.backup_command(self.corpus.root), self.limit * 10, contender.environment())
        if self.local is not None:
            for name, part in (("cp -a", self.corpus.copied), ("read", self.corpus.image)):
                alone = Bygone(f"bygone-part-{name[:2]}", self.local.binary, self.folder)
                alone.create(self.corpus.root)
                alone.back_up(self.corpus.root / part, "--full", self.limit * 10)
                packs = alone.repository / "packs"
                self.sealed[name] = sum(path.stat().st_size for path in packs.rglob("*") if path.is_file())

    def attempt(self, contender, action):
        if contender is None:
            return
        try:
            action(contender)
        except Failed as error:
            say(f"  {contender.name}: {error}")
            self.facts.append(f"{contender.name}: {error}.")

    def on_mount(self, contender, name, *actions):
        """Mount, note how soon it was ready, do each of `actions` on it, and take it away."""
        drop_caches()
        self.servers.carried()
        mount = self.mounts.start(contender, self.corpus.root)
        try:
            self.note(f"{contender.name}: ready, {name}", mount.ready)
            self.note_carried(contender, "ready", name)
            for action in actions:
                action(contender, mount, name)
        finally:
            self.mounts.stop(mount)

    def told(self, contender, mount, step, name, command):
        """Time a command on a mount, with what it moved through the proxy."""
        self.servers.carried()
        try:
            seconds = timed(command, self.limit).seconds
        except TooSlow:
            # At least so long: a ratio to it is one that is at most so good.
            self.facts.append(f"{contender.name}: {step}, {name}, was given up after {self.limit:.0f} s.")
            seconds = self.limit
        self.note(f"{contender.name}: {step}, {name}", seconds)
        self.note_carried(contender, step, name)

    def note_carried(self, contender, step, name):
        carried = self.servers.carried()
        if getattr(contender, "is_far", False):
            self.values.setdefault(f"{contender.name}: {step}, {name}: requests", []).append(carried["requests"])
            self.values.setdefault(f"{contender.name}: {step}, {name}: MB", []).append(carried["bytes_down"] / 1e6)

    def list(self, contender, mount, name):
        self.told(contender, mount, "ls -l", name, ["ls", "-l", mount.tree / self.corpus.copied])

    def first_byte(self, contender, mount, name):
        self.told(contender, mount, "first byte", name, ["head", "-c", "1", mount.tree / self.some_file()])

    def some_file(self):
        """A file of some KB that is not in the copied directory: the first one by name that is as deep as any."""
        found = (path.relative_to(self.corpus.root) for path in sorted(self.corpus.root.rglob("*.[ch]"))
                 if path.is_file() and path.stat().st_size > 4096)
        return max((path for path in found if self.corpus.copied not in path.parents), key=lambda it: len(it.parts))

    def copy(self, contender, mount, name):
        target = self.folder / "copy"
        try:
            self.told(contender, mount, "cp -a", name, ["cp", "-a", mount.tree / self.corpus.copied, target])
            if self.values[f"{contender.name}: cp -a, {name}"][-1] >= self.limit:
                return
            if (same := subprocess.run(["diff", "-rq", "--no-dereference", target, self.corpus.root / self.corpus.copied],
                                       capture_output=True, check=False)).returncode != 0:
                raise Failed(f"what was copied is not what was backed up: {same.stdout.decode()[:300]}")
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def read(self, contender, mount, name):
        self.told(contender, mount, "read", name,
                  ["cmp", mount.tree / self.corpus.image, self.corpus.root / self.corpus.image])

    def own(self, contender):
        contender.is_far = True
        contender.forget()
        self.on_mount(contender, "cold", self.list, self.first_byte)
        contender.forget()
        self.on_mount(contender, "cold", self.copy)
        self.on_mount(contender, "warm", self.copy)
        contender.forget()
        self.on_mount(contender, "cold", self.read)
        self.on_mount(contender, "warm", self.read)

    def peer(self, contender):
        contender.is_far = True
        contender.forget()
        self.on_mount(contender, "cold", self.copy)

    def near(self, contender):
        self.on_mount(contender, "local", self.copy)
        self.on_mount(contender, "local", self.read)

    def rows(self):
        own = next((it.name for it in self.contenders if it.kind == "bygone"), None)
        if own is None:
            return []
        line = f"their sealed bytes at {LINE_BYTES_PER_SECOND / 1e6:.0f} MB/s"
        at_line = {name: size / LINE_BYTES_PER_SECOND for name, size in self.sealed.items()}
        rows = [self.limit_row("mount ready, cold", f"{own}: ready, cold", 0.4),
                self.limit_row("mount ready, warm", f"{own}: ready, warm", 0.15),
                self.limit_row("ls -l of a directory, cold", f"{own}: ls -l, cold", 0.3),
                self.limit_row("first byte of a file, cold", f"{own}: first byte, cold", 0.5)]
        for step, words, limit in (("cp -a", f"cp -a of {self.corpus.copied_files:,} files", 1.3),
                                   ("read", f"{self.corpus.image_bytes / 1e6:.0f} MB sequential", 1.1)):
            cold, warm = self.median(f"{own}: {step}, cold"), self.median(f"{own}: {step}, warm")
            near = self.median(f"bygone-local: {step}, local")
            rows.append(at_most(f"{words}, cold", line, limit, "ready", cold, at_line.get(step)))
            rows.append(at_most(f"{words}, after a remount", "a local repository", 1.2, "ready", warm, near))
        for peer in (it for it in self.contenders if it.kind != "bygone"):
            for step, words in (("ready", "mount ready"), ("cp -a", "cp -a")):
                rows.append(at_most(f"{words}, cold", peer.label(), 0.2, "ready", self.median(f"{own}: {step}, cold"),
                                    self.median(f"{peer.name}: {step}, cold")))
        return rows

    def limit_row(self, step, name, limit):
        value = self.median(name)
        return below(step, limit, value, "-" if value is None else f"{value:.3f} s", f"{limit} s")

    def report(self, machine):
        parts = [f"{machine}; {DELAY_MS} ms a request, {LINE_BYTES_PER_SECOND / 1e6:.0f} MB/s over all, radosgw; "
                 f"medians of {self.rounds}.", rows_table(self.rows()),
                 "\n".join(f"- {fact}" for fact in self.facts), self.spread(), self.sizes()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def spread(self):
        times = {name: values for name, values in self.values.items() if name.count(":") == 1}
        requests = {name: self.values.get(f"{name}: requests") for name in times}
        moved = {name: self.values.get(f"{name}: MB") for name in times}
        return table("seconds", ["median", "lowest to highest", "requests", "MB"],
                     [[name, f"{median(values):.3f}", f"{min(values):.3f} to {max(values):.3f}",
                       f"{median(requests[name]):.0f}" if requests[name] else "-",
                       f"{median(moved[name]):.1f}" if moved[name] else "-"] for name, values in times.items()])

    def sizes(self):
        return "; ".join(f"{name} reads {size / MIB:.1f} MiB of sealed bytes" for name, size in self.sealed.items())


def pairs_of(programs):
    """Names, programs and kinds of those that can be measured here."""
    return [(name, path, kind) for name, path, kind in programs if kind in FAR and os.access(path, os.X_OK)]
