"""The cases that are too large for every run: a point of a million files, and a point on a chain of 365.

Bygone only, but for one row: an image of the million files, mounted by squashfuse, for how soon a mount is ready.
"""

import shutil
from statistics import median

import steps
from contenders import Bygone, Squashfuse
from counters import answered, total
from machine import Failed, drop_caches, need_space, say, timed
from mounts import Mounts
from report import MIB, table
from targets import Row, at_most, below, rows_table
from trees import BLOCK_BYTES, ENTRY_BYTES, SMALL_PER_DIRECTORY, WorkingCopy, remove, small_files

SMALL_POINT_FILES = 1000
READY_LOOKS = 9
CHAIN_LOOKS = 3
CHANGE_SPACE_BYTES = 6 << 20
# One step over a million files takes about a minute.
SECONDS_MAX = 3600
# What a repository, and an image, take of a small file.
STORED_BYTES = 700
# The default of --cache-memory, which the mount tells if it tells anything.
CACHE_BYTES = 64 * MIB
MEMORY_BESIDE_CACHE = 48 * MIB
# As much as a peak may grow in the second pass and still be flat: a few buffers, or 8 bytes a file of a million.
FLAT_BYTES = 8 * MIB


class Scale:
    """Both cases in one work folder: `rows` are the figures to reach, `facts` sentences, `values` every sample."""

    def __init__(self, binary, folder, rounds):
        self.binary = binary
        self.folder = folder
        self.rounds = rounds
        self.mounts = Mounts(folder)
        self.rows = []
        self.facts = []
        self.values = {}

    def bygone(self, name):
        made = Bygone(f"bygone-{name}", self.binary, self.folder)
        made.create(self.folder)
        return made

    def note(self, name, value):
        self.values.setdefault(name, []).append(value)
        say(f"  {name:<40} {value:.3f} s" if isinstance(value, float) else f"  {name:<40} {value:,}")
        return value

    def median(self, name):
        return median(self.values[name]) if name in self.values else None

    # The point of very many files.

    def files(self, count):
        need_space(self.folder, count * (BLOCK_BYTES + ENTRY_BYTES + 2 * STORED_BYTES), count,
                   f"a tree of {count:,} files, with its repository and image,")
        directories = max(1, count // SMALL_PER_DIRECTORY)
        say(f"making {count:,} files in {directories:,} directories ...")
        trees = {"large": self.folder / "large", "small": self.folder / "small"}
        small_files(trees["large"], count, directories)
        small_files(trees["small"], min(SMALL_POINT_FILES, count), min(directories, SMALL_POINT_FILES))
        points = {name: self.bygone(name) for name in trees}
        made = {}
        for name, tree in trees.items():
            drop_caches()
            made[name] = points[name].back_up(tree, "--full", SECONDS_MAX, recorded="/")
            self.note(f"{name}: backup", made[name]["seconds"])
        stored = points["large"].stored_bytes()
        self.facts.append(f"{count:,} files, {made['large']['bytes'] / MIB:,.0f} MiB: backed up in "
                          f"{self.median('large: backup'):.1f} s, stored in {stored / MIB:,.0f} MiB.")
        image = self.image(trees["large"])
        remove(trees["large"])
        self.first_looks(points | ({"squashfuse": image} if image else {}))
        self.ready_rows()
        self.memory(points["large"], count, directories)

    def image(self, tree):
        """The tree's image for squashfuse, or None without the programs."""
        binary = shutil.which("squashfuse")
        if binary is None:
            say("left out: squashfuse")
            return None
        try:
            made = Squashfuse("squashfuse", binary, self.folder)
            made.create(tree)
            return made
        except Failed as error:
            say(f"left out: squashfuse: {error}")
            return None

    def first_looks(self, looked):
        """How soon each mount is ready, and has listed its root; `looked` is contenders by name."""
        pairs = list(looked.items())
        for number in range(READY_LOOKS):
            turn = number % len(pairs)
            for name, contender in pairs[turn:] + pairs[:turn]:
                drop_caches()
                mount = self.mounts.start_as(contender, contender.mount_command, lambda point: point)
                try:
                    listed = timed(["ls", "-l", mount.tree], SECONDS_MAX)
                    self.note(f"{name}: ready", mount.ready)
                    self.note(f"{name}: ready and ls -l", mount.ready + listed.seconds)
                finally:
                    self.mounts.stop(mount)

    def ready_rows(self):
        ready, both = self.median("large: ready"), "ready and ls -l"
        self.rows += [
            at_most("mount ready, the large point", "squashfuse", 3, "ready", ready, self.median("squashfuse: ready")),
            below("mount ready, the large point", 0.05, ready, f"{ready:.3f} s", "under 50 ms"),
            at_most("mount ready and first ls -l of the root", "a point of 1,000 files", 1.5, "ready",
                    self.median(f"large: {both}"), self.median(f"small: {both}"))]

    def memory(self, contender, count, directories):
        """Walk and read all of it twice, the page cache dropped before each, and see what the mount's memory was."""
        drop_caches()
        mount = self.mounts.start_as(contender, contender.mount_command, lambda point: point)
        try:
            for turn in ("first", "second"):
                drop_caches()
                found = timed(steps.find_command(mount.tree), SECONDS_MAX)
                steps.expect("entries found", int(found.printed), count + directories + 1)
                self.note(f"{turn} find", found.seconds)
                self.note(f"{turn} tar", timed(steps.tar_command(mount.tree), SECONDS_MAX).seconds)
                self.note(f"peak after the {turn} pass", mount.peak_memory_bytes())
        finally:
            self.mounts.stop(mount)
        told = mount.last_counters() or {}
        first, second = (self.median(f"peak after the {turn} pass") for turn in ("first", "second"))
        limit = told.get("cache", {}).get("limit", CACHE_BYTES) + MEMORY_BESIDE_CACHE
        self.rows += [
            below("peak memory, walking and reading all", limit, second, f"{second / MIB:.0f} MiB",
                  f"cache + 48 MiB: {limit / MIB:.0f} MiB"),
            below("the same, growth in the second pass", FLAT_BYTES, second - first,
                  f"{(second - first) / MIB:.1f} MiB", f"flat: at most {FLAT_BYTES / MIB:.0f} MiB")]
        self.cache_row(told)
        names = ("first find", "first tar", "second find", "second tar")
        times = {name: f"{self.median(name):.1f} s" for name in names}
        self.facts.append(f"find {times['first find']}, tar {times['first tar']}; again, the page cache dropped, "
                          f"{times['second find']} and {times['second tar']}.")
        if told:
            kinds = ", ".join(f"{kind} {number:,}" for kind, number in answered(told).items())
            self.facts.append(f"In both passes the mount answered {total(told):,} requests ({kinds}).")
            self.values["large: counters"] = [told]

    def cache_row(self, told):
        cache = told.get("cache", {})
        if {"peak", "limit"} <= cache.keys():
            self.rows.append(below("the cache's own peak", 1.05 * cache["limit"], cache["peak"],
                                   f"{cache['peak'] / MIB:.1f} MiB",
                                   f"its limit of {cache['limit'] / MIB:.0f} MiB, and 5%"))

    # The point on a long chain.

    def chain(self, corpus, points):
        tree = WorkingCopy(corpus, self.folder / "tree", without_image=True)
        need_space(self.folder, 2 * tree.bytes + points * CHANGE_SPACE_BYTES, tree.entries, f"a chain of {points}")
        contenders = {"chain": self.bygone("chain"), "full": self.bygone("full")}
        tree.wait_until_settled()
        say(f"making a chain of {points} incrementals of {tree.files:,} files ...")
        contenders["chain"].back_up(tree.root, "--full", SECONDS_MAX, recorded="/")
        point = {}
        for number in range(1, points + 1):
            tree.change("scale", number)
            point = contenders["chain"].back_up(tree.root, "--incremental", SECONDS_MAX, recorded="/")
            self.values.setdefault("chain: incremental", []).append(point["seconds"])
            if number % 50 == 0:
                say(f"  {number} of {points}, the last in {point['seconds']:.2f} s")
        contenders["full"].back_up(tree.root, "--full", SECONDS_MAX, recorded="/")
        self.first_looks(contenders)
        for number in range(max(CHAIN_LOOKS, self.rounds)):
            for name in (("chain", "full"), ("full", "chain"))[number % 2]:
                self.chain_steps(name, contenders[name], tree)
        self.chain_rows(points, point, contenders, tree)

    def chain_steps(self, name, contender, tree):
        for step, command in (("find", steps.find_command), ("tar", steps.tar_command)):
            drop_caches()
            mount = self.mounts.start_as(contender, contender.mount_command, lambda point: point)
            try:
                drop_caches()
                done = timed(command(mount.tree), SECONDS_MAX)
                self.note(f"{name}: {step}", done.seconds)
                if step == "find":
                    steps.expect("entries found", int(done.printed), tree.entries)
            finally:
                self.mounts.stop(mount)
            self.values.setdefault(f"{name}: {step} counters", []).append(mount.last_counters())

    def chain_rows(self, points, point, contenders, tree):
        for step, limit in (("ready", 1.2), ("find", 1.2), ("tar", 2)):
            self.rows.append(at_most(f"{step} on a chain of {points} incrementals", "the same tree as one full", limit,
                                     step, self.median(f"chain: {step}"), self.median(f"full: {step}")))
        runs = len(point["runs"])
        self.rows.append(Row(f"runs under point {points}", "-", "at most two dozen", str(runs), "-", None, runs <= 24))
        sizes = {name: contender.stored_bytes() / MIB for name, contender in contenders.items()}
        times = self.values["chain: incremental"]
        self.facts.append(
            f"Chain: {tree.files:,} files, {tree.bytes / MIB:,.0f} MiB, {points} incrementals in {sum(times):.0f} s "
            f"(median {median(times):.2f} s, longest {max(times):.2f} s), stored in {sizes['chain']:,.0f} MiB; "
            f"one full in {sizes['full']:,.0f} MiB.")
        for step in ("find", "tar"):
            told = {name: self.values[f"{name}: {step} counters"][-1] for name in ("chain", "full")}
            if all(told.values()):
                frames = {name: it.get("frames", {}).get("opened", 0) for name, it in told.items()}
                self.facts.append(
                    f"{step}: {frames['chain']:,} frames opened on the chain, {frames['full']:,} on the full; "
                    f"{total(told['chain']):,} requests answered, {total(told['full']):,}.")

    def report(self, machine):
        """What there is so far, as Markdown."""
        parts = [f"{machine}.", rows_table(self.rows) if self.rows else "",
                 "\n".join(f"- {fact}" for fact in self.facts), self.spread_table()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def spread_table(self):
        """Every time, median and spread."""
        times = {name: values for name, values in self.values.items() if all(isinstance(it, float) for it in values)}
        return table("seconds", ["median", "lowest to highest"],
                     [[name, f"{median(values):.3f}", f"{min(values):.3f} to {max(values):.3f}"]
                      for name, values in times.items()])
