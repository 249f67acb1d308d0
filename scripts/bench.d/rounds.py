"""The comparison: every contender on one corpus, round after round.

A round: everyone backs up into an empty repository, and again with nothing changed; the steps on a mount, each done by
one contender after the other; then 1% of the files change, and everyone backs up again. The order of the contenders
turns with the rounds, and the page cache is empty, and nothing waits to be written, before anything that is timed.
The repositories are then asked where a file is, what changed and what became of it, without a mount. What only bygone is
asked to do comes last: a second full, `diff -r` of two points, a chain of 30.
"""

import time

import report
import restoring
import search
import steps
from machine import Failed, cache_drops, drop_caches, say, timed
from mounts import Mounts
from samples import Samples
from trees import big_files, compressed_bytes

# A step that took a peer longer than this is not done again in later rounds, lest it fill the time of the run.
ONCE_SECONDS = 20.0
# So often is a step done in all, if somebody else drops the page cache while it goes on.
UNDISTURBED_ATTEMPTS = 3
CHAIN_POINTS = 30
CHAIN_LOOKS_MIN = 9
# What a peer may take for a backup, in limits of a step.
BACKUP_LIMITS = 10
# What is measured beside the steps of steps.py, by the name that --steps takes.
OTHER_STEPS = ["restore", "streams", "changes", "diff", "search", "chain"]
ALL_STEPS = [*steps.STEPS, *OTHER_STEPS]


class Run:
    """One run: contenders, samples, and what is shared by the rounds.

    `source` is what the user named, `corpus` the working copy of it.
    """

    def __init__(self, chosen, source, corpus, contenders, folder):
        self.corpus = corpus
        self.contenders = contenders
        self.chosen = chosen
        self.folder = folder
        self.mounts = Mounts(folder)
        self.bench = steps.Bench(corpus, folder, chosen.limit)
        self.backup_limit = BACKUP_LIMITS * chosen.limit
        described = {"root": str(source.root), "files": corpus.files, "entries": corpus.entries, "bytes": corpus.bytes,
                     "image": str(corpus.image), "image_bytes": corpus.image_bytes,
                     "copied": str(corpus.copied), "copied_files": corpus.copied_files}
        labels = {contender.name: contender.label() for contender in contenders}
        self.samples = Samples(labels, described, chosen.rounds)
        self.bygones = [contender for contender in contenders if contender.kind == "bygone"]
        self.streams = {}  # the big files: a Bench, and a contender with a repository of them by each one's name

    def whole(self):
        if self.wants("streams"):
            self.prepare_streams()
        for number in range(self.chosen.rounds):
            say(f"round {number + 1} of {self.chosen.rounds}")
            turn = number % len(self.contenders)
            self.round(number, self.contenders[turn:] + self.contenders[:turn])
        if self.wants("chain"):
            self.chain()

    def wants(self, step):
        return step in self.chosen.steps

    def round(self, number, order):
        self.corpus.wait_until_settled()
        for contender in order:
            self.attempt(contender, ["backup", "stored", "no change"], self.back_up)
        for step in (step for step in steps.STEPS if self.wants(step)):
            for contender in order:
                self.attempt(contender, steps.FIGURES[step], lambda it, step=step: self.step(it, steps.STEPS[step]))
        if self.wants("restore"):
            self.restore(order)
        for contender in (contender for contender in order if contender.name in self.streams):
            self.attempt(contender, ["streams 1", "streams 8"], self.stream)
        if any(self.wants(step) for step in ("changes", "diff", "search")):
            self.change(number, order)
        self.samples.end_round()

    def attempt(self, contender, figures, action):
        """Do `action`, unless it or the backup failed before; a failure is noted for all of `figures`."""
        name, first = contender.name, figures[0]
        if self.samples.failed(name, first) or self.samples.failed(name, "backup"):
            return
        if contender.kind != "bygone" and (self.samples.median(name, first) or 0) > ONCE_SECONDS \
                and first not in report.RATES:
            say(f"  {name:<14} {first:<18} not again")
            self.samples.once.add((name, first))
            return
        try:
            action(contender)
        except (Failed, OSError, ValueError) as error:
            say(f"  {name}: {first} failed: {error}")
            for figure in figures:
                self.samples.fail(name, figure, str(error))

    def back_up(self, contender):
        """Into an empty repository; then again, for who adds to a repository."""
        contender.create(self.corpus.root)
        if contender.backup_command(self.corpus.root) is None:
            return
        self.note(contender, "backup", self.timed_backup(contender))
        self.note(contender, "stored", contender.stored_bytes())
        if not contender.keeps_points:
            return
        self.note(contender, "no change", self.timed_backup(contender))
        if contender.kind == "bygone":
            self.note(contender, "no-change manifest", contender.newest_manifest_bytes())

    def timed_backup(self, contender):
        command = contender.backup_command(self.corpus.root)
        drop_caches()
        return timed(command, self.backup_limit, contender.environment()).seconds

    def step(self, contender, action, bench=None, mount_as=None):
        """One step on a fresh mount; once more if somebody else emptied the page cache meanwhile."""
        for attempts_left in reversed(range(UNDISTURBED_ATTEMPTS)):
            start = time.monotonic()
            measured, disturbed = self.one_step(contender, action, bench or self.bench, mount_as)
            if not disturbed:
                break
            again = attempts_left > 0 and time.monotonic() - start < ONCE_SECONDS
            what_next = ": once more" if again else ""
            say(f"  {contender.name}: another program dropped the page cache meanwhile{what_next}")
            if not again:
                break
        for figure, value in measured.figures.items():
            self.note(contender, figure, value)
        for name, counters in measured.counters.items():
            self.samples.count(contender.name, name, counters)

    def one_step(self, contender, action, bench, mount_as):
        """The step with an empty page cache before the mount and before the step, and whether it was disturbed."""
        drop_caches()
        mount = mount_as() if mount_as else self.mounts.start(contender, self.corpus.root)
        try:
            # A mount of another kind is ready in another time.
            if mount_as is None:
                self.samples.add(contender.name, "ready", mount.ready)
            drop_caches()
            drops = cache_drops()
            measured = action(bench, mount)
            disturbed = cache_drops() != drops
            self.samples.peak(contender.name, mount.peak_memory_bytes())
        finally:
            self.mounts.stop(mount)
        if not any(measured.counters.values()) and mount.last_counters():
            # This mount tells only at its end, and then of everything: that is the first pass, but for a little.
            measured.counters = {next(iter(measured.counters), "all"): mount.last_counters()}
        return measured, disturbed

    def prepare_streams(self):
        """Repositories of eight big files, for bygone and for the file system in the kernel."""
        corpus = big_files(self.corpus, self.folder / "big")
        if corpus is None:
            say("no streams: the largest file of the corpus is too small to make eight big ones of it")
            return
        bench = steps.Bench(corpus, self.folder, self.chosen.limit)
        for contender in self.contenders:
            if contender.kind in ("bygone", "squashfs"):
                own = type(contender)(contender.name, contender.binary, self.folder / "big-repositories")
                own.create(corpus.root)
                timed(own.backup_command(corpus.root), self.backup_limit, own.environment())
                self.streams[contender.name] = bench, own

    def stream(self, contender):
        bench, own = self.streams[contender.name]
        for action in (steps.one_stream, steps.all_streams):
            self.step(contender, action, bench, lambda: self.mounts.start(own, bench.corpus.root))

    def change(self, number, order):
        """1% of the files change, and everyone backs up again; then again 1%, for bygone's second full."""
        before = {contender.name: contender.newest_point() for contender in self.bygones if self.is_fit(contender)}
        changed = self.corpus.change("incremental", number)
        for contender in (contender for contender in order if contender.keeps_points and self.is_fit(contender)):
            self.attempt(contender, ["1% changed"],
                         lambda it: self.note(it, "1% changed", self.timed_backup(it)))
        if self.wants("search"):
            for figure in search.FIGURES:
                for contender in (it for it in order if it.keeps_points and self.is_fit(it)):
                    self.attempt(contender, [figure],
                                 lambda it, figure=figure: self.search(it, figure, changed[0]))
        for contender in (contender for contender in self.bygones if self.is_fit(contender) and self.wants("diff")):
            pair = before[contender.name], contender.newest_point()
            self.attempt(contender, ["diff -r", "find in both"],
                         lambda it, pair=pair: self.diff(it, pair, len(changed)))
        if self.wants("changes"):
            alone, together = compressed_bytes(self.corpus.change("full", number))
            for contender in (contender for contender in self.bygones if self.is_fit(contender)):
                self.note(contender, "changed files", alone)
                self.note(contender, "changed files as one", together)
                self.attempt(contender, ["second full", "second full stored"], self.second_full)

    def restore(self, order):
        """Everything brought back, by who can; and copied from bygone's mount."""
        for contender in (contender for contender in order if contender.keeps_points and self.is_fit(contender)):
            self.attempt(contender, ["restore"], self.restore_one)
        for contender in (contender for contender in self.bygones if self.is_fit(contender)):
            self.attempt(contender, ["cp -a of all"], lambda it: self.step(it, restoring.copied))

    def restore_one(self, contender):
        self.note(contender, "restore",
                  restoring.restored(contender, self.corpus, self.folder, self.chosen.limit))

    def search(self, contender, figure, path):
        """One question to a repository of three points, about a file that changed before the last of them."""
        drop_caches()
        self.note(contender, figure, search.asked(contender, figure, path, self.chosen.limit))

    def is_fit(self, contender):
        return not self.samples.failed(contender.name, "backup") and contender.backup_command(self.corpus.root)

    def second_full(self, contender):
        drop_caches()
        point = contender.back_up(self.corpus.root, "--full", self.backup_limit)
        self.note(contender, "second full", point["seconds"])
        self.note(contender, "second full stored", point["newly_uploaded_stored_bytes"])

    def diff(self, contender, pair, changed):
        """`diff -r` of two points in one mount of all, and `find` with stat over the same two."""
        relative = self.corpus.root.relative_to("/")

        def mount_all():
            return self.mounts.start_as(contender, contender.mount_all_command, lambda point: point / "points")

        def compare(bench, mount):
            trees = [mount.tree / point / relative for point in pair]
            # It exits with 2 where a symlink leads nowhere, and tells of a changed file again by a symlink to it.
            measured, printed = steps.passed(bench, mount, ["diff", "-r", *trees], "diff -r", statuses=(1, 2))
            told = sum(line.startswith(("diff -r ", "Binary files ")) for line in printed.splitlines())
            if told < changed:
                raise Failed(f"diff -r told of {told} files that differ, not of {changed}")
            return measured

        def find(bench, mount):
            trees = [mount.tree / point / relative for point in pair]
            measured, printed = steps.passed(bench, mount, steps.find_command(*trees), "find in both")
            steps.expect("entries found", int(printed), 2 * bench.corpus.entries)
            return measured

        for action in (compare, find):
            self.step(contender, action, mount_as=mount_all)

    def chain(self):
        """How soon bygone's mount of the last of 30 points is ready, beside the two that mount an image."""
        for contender in (contender for contender in self.bygones if self.is_fit(contender)):
            say(f"{contender.name}: making a chain of {CHAIN_POINTS} ...")
            self.attempt(contender, ["ready, chain of 30"], self.make_chain)
        looked = [contender for contender in self.contenders if contender.kind in ("bygone", "squashfuse", "squashfs")]
        for number in range(max(CHAIN_LOOKS_MIN, self.chosen.rounds)):
            turn = number % len(looked)
            for contender in looked[turn:] + looked[:turn]:
                self.attempt(contender, ["ready, chain of 30"], self.look)

    def make_chain(self, contender):
        contender.back_up(self.corpus.root, "--full", self.backup_limit)
        for number in range(1, CHAIN_POINTS):
            self.corpus.change("chain", contender.name, number)
            point = contender.back_up(self.corpus.root, "--incremental", self.backup_limit)
        steps.expect("points in the chain", len(point["chain"]), CHAIN_POINTS)

    def look(self, contender):
        drop_caches()
        mount = self.mounts.start(contender, self.corpus.root)
        self.mounts.stop(mount)
        self.note(contender, "ready, chain of 30", mount.ready)

    def note(self, contender, figure, value):
        self.samples.add(contender.name, figure, value)
        if value is not None and not figure.startswith("cpu "):
            say(f"  {contender.name:<14} {figure:<18} {report.written(figure, value)}")


def work_space(corpus, contenders):
    """Bytes that a run takes beside the working copy: a repository each, of about half the corpus; big files; a restore."""
    return corpus.bytes * (len(contenders) + 4) // 2
