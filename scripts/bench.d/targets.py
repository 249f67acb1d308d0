"""What bygone's figures are to reach, and whether they do: a row for each, with the ratio that decides.

A ratio is bygone's figure over the other's: for times and sizes it is to be at most, for rates at least what is asked.
For a peer that cannot be had on this machine stands its ratio to the kernel's squashfs in an earlier run, applied to
squashfs's figure in this one. Pure: samples in, rows out.
"""

from dataclasses import asdict, dataclass

from counters import total
from report import MIB, RATES, counted, table, written

FUSE_PEERS = ("restic", "rustic", "borg", "kopia", "dwarfs", "squashfuse")
# mkdwarfs writes images, so it is none of the backup programs.
BACKUP_PEERS = ("restic", "rustic", "borg", "kopia")

# One run on a machine of 2 cores, each divided by what the kernel's squashfs took in it: 0.25 s for find, 1.9 s for
# tar, 0.39 s for the second one, 0.61 s for cp -a, 0.31 s for the read, 6,900 reads a second; its image took 3.1 s and
# 119 MiB.
EARLIER = {
    "dwarfs": ("DwarFS 0.15", {"find": 0.98 / 0.25, "tar": 5.2 / 1.9, "second tar": 1.6 / 0.39, "cp -a": 1.7 / 0.61,
                               "read": 0.28 / 0.31, "random 1": 5000 / 6900}),
    "kopia": ("kopia 0.23", {"find": 0.58 / 0.25, "tar": 13.9 / 1.9, "second tar": 6.6 / 0.39, "cp -a": 1.5 / 0.61,
                             "read": 1.0 / 0.31, "random 1": 280 / 6900, "backup": 7.0 / 3.1, "stored": 125 / 119}),
    "borg": ("borg 1.4", {"find": 0.91 / 0.25, "tar": 6.2 / 1.9, "second tar": 3.7 / 0.39, "cp -a": 1.6 / 0.61,
                          "read": 0.54 / 0.31, "random 1": 186 / 6900, "backup": 8.2 / 3.1, "stored": 123 / 119}),
    "rustic": ("rustic 0.11", {"find": 17.7 / 0.25, "cp -a": 9.3 / 0.61, "read": 0.41 / 0.31,
                               "random 1": 2100 / 6900, "backup": 5.6 / 3.1, "stored": 126 / 119}),
    "squashfuse": ("squashfuse", {"find": 2.0 / 0.25, "tar": 8.4 / 1.9, "second tar": 3.8 / 0.39, "cp -a": 1.4 / 0.61,
                                  "read": 0.33 / 0.31, "random 1": 4900 / 6900}),
}


@dataclass
class Row:
    """One figure to reach. `reached` is None where a figure is missing."""

    step: str
    against: str
    reach: str
    own: str
    other: str
    ratio: float | None
    reached: bool | None


def rows_table(rows):
    words = {True: "yes", False: "NO", None: "unknown"}
    return table("step", ["against", "reach", "bygone", "the other", "ratio", "reached"],
                 [[row.step, row.against, row.reach, row.own, row.other,
                   "-" if row.ratio is None else f"{row.ratio:.2f}", words[row.reached]] for row in rows])


def at_most(step, against, limit, figure, own, other):
    """A row for a ratio of at most `limit`, as of times and sizes."""
    ratio = own / other if own is not None and other else None
    reach = "no more" if limit == 1 else f"at most {limit:.2g} times"
    return Row(step, against, reach, written(figure, own), written(figure, other), ratio,
               None if ratio is None else ratio <= limit)


def at_least(step, against, limit, figure, own, other):
    """A row for a ratio of at least `limit`, as of rates."""
    ratio = own / other if own is not None and other else None
    reach = "no less" if limit == 1 else f"at least {limit:.2g} times"
    return Row(step, against, reach, written(figure, own), written(figure, other), ratio,
               None if ratio is None else ratio >= limit)


def below(step, limit, value, text, reach):
    """A row for a figure that is to be at most `limit` by itself."""
    return Row(step, "-", reach, text, "-", None, None if value is None else value <= limit)


class Field:
    """The others' figures: of one kind, or of the best of some; each as a name to show and a value."""

    def __init__(self, samples, missing):
        self.samples = samples
        self.missing = missing  # kinds that cannot be had here

    def one(self, kind, figure, version=""):
        """The contender of the kind, or of several the one whose label has `version`; without any an earlier run's."""
        names = self.samples.named(kind)
        named = [name for name in names if version and version in self.samples.labels[name]] or names[:1]
        if not named:
            value, label = self.earlier(kind, figure) if self.stands_in(kind) else (None, kind)
            return label, value
        return self.samples.labels[named[0]], self.samples.median(named[0], figure)

    def best(self, kinds, figure):
        """The best of all contenders of the kinds, those with a figure of an earlier run among them."""
        samples = self.samples
        found = [(samples.median(name, figure), samples.labels[name]) for name in samples.named(*kinds)]
        found += [self.earlier(kind, figure) for kind in kinds if self.stands_in(kind)]
        found = [pair for pair in found if pair[0] is not None]
        if not found:
            return "nobody", None
        value, label = (max if figure in RATES else min)(found)
        return label, value

    def stands_in(self, kind):
        return kind in self.missing and kind in EARLIER

    def earlier(self, kind, figure):
        label, ratios = EARLIER[kind]
        squashfs = self.one("squashfs", figure)[1]
        value = ratios[figure] * squashfs if squashfs is not None and figure in ratios else None
        return value, f"{label}, not here: by an earlier run"


def rows(samples, base, missing):
    """Every figure to reach that one run can tell, step by step; `missing` are kinds that cannot be had here."""
    field = Field(samples, missing)
    return [*mount_rows(samples, base, field), *own_rows(samples, base), *backup_rows(samples, base, field),
            *request_rows(samples, base)]


def told(found):
    """Those rows that a run of few steps, or of few contenders, can tell."""
    return [row for row in found if row.reached is not None]


def mount_rows(samples, base, field):
    def own(figure):
        return samples.median(base, figure)

    def squashfs(step, figure, limit, judge=at_most):
        return judge(step, "squashfs in the kernel", limit, figure, own(figure), field.one("squashfs", figure)[1])

    def best(step, figure, limit):
        label, value = field.best(FUSE_PEERS, figure)
        return at_most(step, f"best FUSE peer ({label})", limit, figure, own(figure), value)

    ready, tar = "ready, chain of 30", "tar of the whole tree"
    restic, restic_tar = field.one("restic", "tar", "0.14")
    rustic = {figure: field.one("rustic", figure) for figure in ("random 1", "random 8")}
    return [
        at_most("mount ready, chain of 30", "squashfuse", 3, ready, own(ready), field.one("squashfuse", ready)[1]),
        below("mount ready, chain of 30", 0.05, own(ready), written(ready, own(ready)), "under 50 ms"),
        squashfs("find with stat", "find", 1.2), best("find with stat", "find", 0.5),
        squashfs(tar, "tar", 0.75), best(tar, "tar", 0.4), at_most(tar, restic, 1 / 7, "tar", own("tar"), restic_tar),
        squashfs("cp -a of a directory", "cp -a", 0.9), best("cp -a of a directory", "cp -a", 0.6),
        squashfs("grep -r over the tree", "grep -r", 0.75),
        squashfs("sequential read", "read", 0.5),
        squashfs("random 4 KiB, one reader", "random 1", 1.3, at_least),
        at_least("random 4 KiB, one reader", rustic["random 1"][0], 4, "random 1", own("random 1"),
                 rustic["random 1"][1]),
        squashfs("random 4 KiB, eight readers", "random 8", 1.3, at_least),
        at_least("random 4 KiB, eight readers", rustic["random 8"][0], 4, "random 8", own("random 8"),
                 rustic["random 8"][1]),
        squashfs("second pass, tar", "second tar", 1.2), squashfs("second pass, find", "second find", 1.2),
    ]


def own_rows(samples, base):
    """What bygone is held against itself in."""
    slowest = samples.median(base, "streams slowest")
    return [
        at_least("eight readers of eight files", "one reader", 1.7, "streams 8", samples.median(base, "streams 8"),
                 samples.median(base, "streams 1")),
        Row("eight readers of eight files", "the fastest of them", "slowest at most 1.5 times",
            written("streams slowest", slowest), "-", slowest,
            None if slowest is None else slowest <= 1.5),
        at_most("diff -r of two points, 1% changed", "find with stat on both", 1.5, "diff -r",
                samples.median(base, "diff -r"), samples.median(base, "find in both")),
    ]


def backup_rows(samples, base, field):
    def own(figure):
        return samples.median(base, figure)

    def best(step, figure, limit):
        label, value = field.best(BACKUP_PEERS, figure)
        return at_most(step, f"best backup peer ({label})", limit, figure, own(figure), value)

    def squashfs(step, figure, limit):
        return at_most(step, "mksquashfs, zstd 3", limit, figure, own(figure), field.one("squashfs", figure)[1])

    stored = own("second full stored")
    return [
        best("backup, first", "backup", 0.5), squashfs("backup, first", "backup", 1),
        best("backup, no change", "no change", 0.25), best("backup, 1% changed", "1% changed", 0.3),
        at_most("second full, 1% changed: new data", "those files, each by zstd 3", 1.1, "second full stored", stored,
                own("changed files")),
        squashfs("stored size", "stored", 0.97), best("stored size", "stored", 1),
        best("restore of everything", "restore", 1),
        at_most("cp -a of everything from the mount", "restore of everything", 1.3, "cp -a of all", own("cp -a of all"),
                own("restore")),
        best("find a name in all points", "find a name", 1), best("what two points differ in", "diff", 1),
        best("history of a file", "history", 1),
    ]


def request_rows(samples, base):
    """The ones that no noise changes."""
    entries, files = samples.corpus["entries"], samples.corpus["files"]

    def row(step, name, divisor, limit, unit):
        value = counted(samples, base, name, total)
        value = None if value is None else value / divisor
        text = "-" if value is None else f"{value:.3f}"
        return below(step, limit, value, text, f"at most {limit:g} requests {unit}")

    second = row("requests, second tar", "second tar", files, 0.02, "a file")
    reads = samples.median(base, "reads in second tar")
    if second.reached is None and reads is not None:
        # Its calls of read(2) are requests and its own reads of the repository: an upper bound.
        second = below("requests, second tar", 0.02, reads / files, f"{reads / files:.3f} at most", second.reach)
    return [row("requests, find", "find", entries, 0.2, "an entry"),
            row("requests, first tar", "tar", files, 1, "a file"), second]


def first_version(samples, base):
    """The aims that the first version was held to, as rows."""
    aims = [("backup", 1), ("stored", 1), ("find", 1 / 4), ("tar", 1 / 4), ("cp -a", 1 / 4), ("no change", 1 / 2)]
    field = Field(samples, ())

    def against(kind, figure, limit, judge=at_most):
        label, value = field.one(kind, figure, "0.14")
        return judge(figure, label, limit, figure, samples.median(base, figure), value)

    peak, manifest = samples.median(base, "peak memory"), samples.median(base, "no-change manifest")
    return [*(against("restic", figure, limit) for figure, limit in aims),
            against("rustic", "read", 1), against("rustic", "random 1", 1, at_least),
            below("peak memory of the mount", 128 * MIB, peak, written("peak memory", peak), "at most 128 MiB"),
            below("manifest of a no-change backup", 4095, manifest,
                  "-" if manifest is None else f"{manifest:.0f} bytes", "under 4 KiB")]


def as_plain(found):
    return [asdict(row) for row in found]
