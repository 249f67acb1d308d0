"""The contenders: how each backs a tree up, how it mounts the newest backup, and where the tree then is.

Every contender compresses with zstd at about level 3, keeps caches and configuration below its own folder, and mounts
in the foreground so that the serving process is known. Encryption stays as each ships it: restic, rustic and kopia
always encrypt; borg is set up without, and so is bygone, but for a row whose name ends with -encrypted or -padded.
Not here: timing, and the order of the steps.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from machine import Failed, timed

PASSWORD = "benchmark"
SETUP_SECONDS_MAX = 600


def newest_manifest_bytes(folder):
    """The size of the newest object in `folder`, None without one."""
    objects = [path.stat() for path in Path(folder).rglob("*") if path.is_file()]
    return max(objects, key=lambda status: status.st_mtime_ns).st_size if objects else None


class Contender:
    """One column of figures. Subclasses are the kinds; `name` is `kind` or begins with it."""

    kind = ""
    stays = True  # the mount command serves the mount itself, rather than ending once it is mounted
    has_process = True  # a process serves the mount, rather than the kernel
    keeps_points = True  # a further backup adds to the repository, rather than writing everything anew
    mount_log = None  # the file that the mount logs to, where its log is of use
    version_arguments = ("--version",)

    def __init__(self, name, binary, folder):
        self.name = name
        self.binary = str(binary)
        self.folder = Path(folder) / name
        self.repository = self.folder / "repository"

    def label(self):
        """The name and the program's version, the latter once only where the name has it, too."""
        version = self.version()
        named = self.name.removeprefix(self.kind).removeprefix("-")
        return f"{self.kind if version.startswith(named) else self.name} {version}".rstrip()

    def version(self):
        """The first thing in the program's answer that looks like a version, or an empty text.

        A program that go builds from its sources may call itself 0.0.0, which says nothing.
        """
        done = subprocess.run([self.binary, *self.version_arguments], capture_output=True, check=False,
                              stdin=subprocess.DEVNULL, env=self.environment())
        found = re.search(rb"\d+\.\d+(\.\d+)?(-dev)?", done.stdout + done.stderr)
        version = found.group().decode() if found else ""
        return "" if version.startswith("0.0.0") else version

    def environment(self):
        """The environment of all of the contender's commands."""
        return dict(os.environ, HOME=str(self.folder), **self.settings())

    def settings(self):
        return {}

    def create(self, _corpus):
        """An empty repository in an empty folder, not timed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for command in self.create_commands():
            timed(command, SETUP_SECONDS_MAX, self.environment())

    def create_commands(self):
        return []

    def backup_command(self, corpus):
        """The backup into the empty repository; None for a kind that has no backup of its own."""
        raise NotImplementedError

    def mount_command(self, point):
        raise NotImplementedError

    def tree(self, point, corpus):
        """The corpus's root in the mount; OSError while it is not there."""
        return point / corpus.relative_to("/")

    def stored_bytes(self):
        return sum(path.lstat().st_size for path in self.repository.rglob("*") if path.is_file())


class Bygone(Contender):
    kind = "bygone"
    # By the end of the name.
    SEALINGS = {"-encrypted": ["--encrypt"], "-padded": ["--encrypt", "--pad"]}

    def __init__(self, name, binary, folder):
        super().__init__(name, binary, folder)
        self.mount_log = self.folder / "mount.log"
        self.sealing = next((options for ending, options in self.SEALINGS.items() if name.endswith(ending)), [])

    def settings(self):
        password = {"BYGONE_PASSWORD": PASSWORD} if self.sealing else {}
        return {"BYGONE_REPO": str(self.repository), "XDG_CACHE_HOME": str(self.folder / "cache"),
                "XDG_STATE_HOME": str(self.folder / "state"), **password}

    def create_commands(self):
        return [[self.binary, "-r", self.repository, "init", *self.sealing]]

    def backup_command(self, corpus):
        return self.point_command(corpus, "--incremental")

    def point_command(self, corpus, kind, recorded=None):
        """A backup of the kind, recorded as another path if so asked; it prints the point as JSON."""
        recorded = [] if recorded is None else ["--as", recorded]
        return [self.binary, "-q", "--json", "-r", self.repository, "backup", kind, *recorded, corpus]

    def back_up(self, corpus, kind, limit, recorded=None):
        """Make a point. Returns its figures by the names of the JSON, `seconds` and `cpu` added, in seconds."""
        done = timed(self.point_command(corpus, kind, recorded), limit, self.environment())
        return {**json.loads(done.printed), "seconds": done.seconds, "cpu": done.cpu}

    def mount_command(self, point):
        return [*self.mount_all_command(point), "--point", "latest"]

    def mount_all_command(self, point):
        return [self.binary, "-v", "-r", self.repository, "mount", "--foreground", "--log-file", self.mount_log, point]

    def newest_point(self):
        """The id of the newest point: ids begin with the time."""
        return max(path.name for path in (self.repository / "points").iterdir())

    def newest_manifest_bytes(self):
        return newest_manifest_bytes(self.repository / "manifests")


class Restic(Contender):
    kind = "restic"
    version_arguments = ("version",)

    def settings(self):
        return {"RESTIC_REPOSITORY": str(self.repository), "RESTIC_PASSWORD": PASSWORD,
                "RESTIC_CACHE_DIR": str(self.folder / "cache"), "RESTIC_PROGRESS_FPS": "0.1"}

    def create_commands(self):
        return [[self.binary, "init"]]

    def backup_command(self, corpus):
        return [self.binary, "backup", "--quiet", corpus]

    def mount_command(self, point):
        return [self.binary, "mount", point]

    def tree(self, point, corpus):
        snapshots = point / "snapshots"
        return snapshots / os.readlink(snapshots / "latest") / corpus.relative_to("/")


class Rustic(Contender):
    kind = "rustic"

    def __init__(self, name, binary, folder):
        super().__init__(name, binary, folder)
        self.corpus = None

    def settings(self):
        return {"RUSTIC_REPOSITORY": str(self.repository), "RUSTIC_PASSWORD": PASSWORD,
                "RUSTIC_CACHE_DIR": str(self.folder / "cache"), "RUSTIC_NO_PROGRESS": "true"}

    def create_commands(self):
        return [[self.binary, "init"]]

    def backup_command(self, corpus):
        self.corpus = corpus
        return [self.binary, "backup", corpus]

    def mount_command(self, point):
        return [self.binary, "mount", point, f"latest:{self.corpus}"]

    def tree(self, point, corpus):
        return point


class Borg(Contender):
    kind = "borg"

    def __init__(self, name, binary, folder):
        super().__init__(name, binary, folder)
        self.archives = 0

    def settings(self):
        return {"BORG_REPO": str(self.repository), "BORG_BASE_DIR": str(self.folder / "base"),
                "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def create_commands(self):
        return [[self.binary, "init", "--encryption", "none"]]

    def backup_command(self, corpus):
        self.archives += 1
        return [self.binary, "create", "--compression", "zstd,3", f"::{self.archives}", corpus]

    def mount_command(self, point):
        return [self.binary, "mount", "--foreground", f"::{self.archives}", point]


class Kopia(Contender):
    kind = "kopia"

    def settings(self):
        return {"KOPIA_PASSWORD": PASSWORD, "KOPIA_CONFIG_PATH": str(self.folder / "config"),
                "KOPIA_CACHE_DIRECTORY": str(self.folder / "cache"), "KOPIA_LOG_DIR": str(self.folder / "logs"),
                "KOPIA_CHECK_FOR_UPDATES": "false"}

    def create_commands(self):
        return [[self.binary, "repository", "create", "filesystem", "--path", self.repository],
                [self.binary, "policy", "set", "--global", "--compression", "zstd"]]

    def backup_command(self, corpus):
        return [self.binary, "snapshot", "create", "--no-progress", corpus]

    def mount_command(self, point):
        listed = subprocess.run([self.binary, "snapshot", "list", "--json"], capture_output=True, check=False,
                                env=self.environment())
        if listed.returncode != 0:
            raise Failed(f"kopia lists no snapshots: {listed.stderr.decode(errors='replace').strip()}")
        newest = max(json.loads(listed.stdout), key=lambda snapshot: snapshot["startTime"])
        return [self.binary, "mount", newest["rootEntry"]["obj"], point]

    def tree(self, point, corpus):
        return point


class Image(Contender):
    """A kind that packs the tree into one file and mounts that."""

    keeps_points = False

    def __init__(self, name, binary, folder):
        super().__init__(name, binary, folder)
        self.repository = self.folder / "image"

    def tree(self, point, corpus):
        return point

    def stored_bytes(self):
        return self.repository.stat().st_size


class Dwarfs(Image):
    """`binary` is mkdwarfs; the mounting program, dwarfs, is looked for beside it, then on PATH."""

    kind = "dwarfs"

    def backup_command(self, corpus):
        return [self.binary, "--input", corpus, "--output", self.repository, "--compression", "zstd:level=3",
                "--no-progress"]

    def mount_command(self, point):
        beside = Path(self.binary).with_name("dwarfs")
        mounter = beside if beside.exists() else shutil.which("dwarfs")
        if mounter is None:
            raise Failed("there is no dwarfs beside mkdwarfs, nor on PATH")
        return [mounter, self.repository, point, "-f"]


def mksquashfs_command(binary, corpus, image):
    return [binary, corpus, image, "-comp", "zstd", "-Xcompression-level", "3", "-no-progress", "-quiet"]


class Squashfs(Image):
    """mksquashfs, and the kernel's own file system to read its image."""

    kind = "squashfs"
    version_arguments = ("-version",)
    stays = False
    has_process = False

    def backup_command(self, corpus):
        return mksquashfs_command(self.binary, corpus, self.repository)

    def mount_command(self, point):
        return ["mount", "-t", "squashfs", "-o", "loop,ro", self.repository, point]


class Squashfuse(Image):
    """Reads an image that mksquashfs makes, so it has no backup time and no stored size of its own."""

    kind = "squashfuse"
    version_arguments = ("-V",)

    def create(self, corpus):
        super().create(corpus)
        maker = shutil.which("mksquashfs")
        if maker is None:
            raise Failed("there is no mksquashfs on PATH to make the image")
        timed(mksquashfs_command(maker, corpus, self.repository), SETUP_SECONDS_MAX)

    def backup_command(self, corpus):
        return None

    def mount_command(self, point):
        return [self.binary, "-f", self.repository, point]

    def stored_bytes(self):
        return None


KINDS = [Bygone, Restic, Rustic, Borg, Kopia, Dwarfs, Squashfs, Squashfuse]
# The names of the programs, where they are not the kind's own.
PROGRAMS = {"dwarfs": "mkdwarfs", "squashfs": "mksquashfs"}


def kind_of(name):
    """The kind that `name` is or begins with (then a hyphen follows). None if there is none."""
    return next((kind for kind in KINDS if name == kind.kind or name.startswith(kind.kind + "-")), None)


def plain_name(name):
    """`name` with the kind's name where it begins with the program's: mkdwarfs-0.15 is dwarfs-0.15."""
    for kind, program in PROGRAMS.items():
        if name == program or name.startswith(program + "-"):
            return kind + name.removeprefix(program)
    return name
