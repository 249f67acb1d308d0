"""Turns samples into the tables: medians, their spread, ratios to bygone, and the first version's aims.

Pure: samples in, text and plain dictionaries out.
"""

from statistics import median

# Where a larger figure is the better one.
RATES = {"random 1", "random 8"}
MIB = 1 << 20


class Samples:
    """The figures by contender and by name: a list each, one value a round; and what failed, by the same two."""

    def __init__(self, labels, corpus, rounds):
        self.labels = labels
        self.corpus = corpus
        self.rounds = rounds
        self.values = {name: {} for name in labels}
        self.failures = {}

    def add(self, name, figure, value):
        if value is not None:
            self.values[name].setdefault(figure, []).append(value)

    def fail(self, name, figure, reason):
        self.failures[name, figure] = reason

    def failed(self, name, figure):
        return (name, figure) in self.failures

    def median(self, name, figure):
        values = self.values[name].get(figure)
        return median(values) if values and not self.failed(name, figure) else None


def headings(corpus):
    """The figures in the order of the columns, with their headings; `corpus` gives the counts in them."""
    return {
        "ready": "ready s",
        "find": "find s",
        "tar": "tar s",
        "second tar": "second tar s",
        "cp -a": f"cp -a of {corpus['copied_files']:,} files s",
        "read": f"{corpus['image_bytes'] / 1e6:.0f} MB read s",
        "random 1": "random 4 KiB reads/s",
        "random 8": "the same, 8 readers",
        "grep -r": "grep -r s",
        "peak memory": "peak MiB",
        "backup": "backup s",
        "stored": "stored MiB",
        "no change": "no-change s",
    }


def written(figure, value):
    """A value as in the design's table: bytes in MiB, rates whole, seconds to two digits or so."""
    if value is None:
        return "-"
    if figure in ("stored", "peak memory"):
        return f"{value / MIB:.0f}"
    if figure in RATES:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 2 else f"{value:.1f}"


def table(first, columns, rows):
    lines = ["| " + " | ".join([first, *columns]) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def shown(samples):
    """The figures that any contender has, or failed to give."""
    known = {figure for values in samples.values.values() for figure in values}
    known |= {figure for _, figure in samples.failures}
    return [figure for figure in headings(samples.corpus) if figure in known]


def medians_table(samples):
    figures = shown(samples)
    heads = headings(samples.corpus)

    def cell(name, figure):
        return "failed" if samples.failed(name, figure) else written(figure, samples.median(name, figure))

    return table("median", [heads[figure] for figure in figures],
                 [[label, *(cell(name, figure) for figure in figures)] for name, label in samples.labels.items()])


def spread_table(samples):
    figures = shown(samples)
    heads = headings(samples.corpus)

    def cell(name, figure):
        values = samples.values[name].get(figure)
        if not values:
            return "-"
        return f"{written(figure, min(values))} to {written(figure, max(values))}"

    return table("lowest to highest", [heads[figure] for figure in figures],
                 [[label, *(cell(name, figure) for figure in figures)] for name, label in samples.labels.items()])


def ratio(samples, name, base, figure):
    """How many times better `base` is than `name`: above 1, `base` is ahead. None where either has no figure."""
    own, other = samples.median(base, figure), samples.median(name, figure)
    if not own or not other:
        return None
    return own / other if figure in RATES else other / own


def ratios_table(samples, base):
    figures = shown(samples)
    heads = headings(samples.corpus)

    def cell(name, figure):
        value = ratio(samples, name, base, figure)
        return "-" if value is None else f"{value:.2f}"

    rows = [[label, *(cell(name, figure) for figure in figures)]
            for name, label in samples.labels.items() if name != base]
    columns = [heads[figure].removesuffix(" s").removesuffix(" MiB") for figure in figures]
    return table(f"ratio to {base}", columns, rows)


# What the first version is to reach: text, whose figure, which figure, and how many times better bygone must be.
AIMS = [
    ("backup no slower than restic's", "restic", "backup", 1.0),
    ("stored size no larger than restic's", "restic", "stored", 1.0),
    ("find four times as fast as restic's", "restic", "find", 4.0),
    ("tar four times as fast as restic's", "restic", "tar", 4.0),
    ("cp -a four times as fast as restic's", "restic", "cp -a", 4.0),
    ("sequential read at least as fast as rustic's", "rustic", "read", 1.0),
    ("random reads at least as fast as rustic's", "rustic", "random 1", 1.0),
    ("no-change backup in half of restic's time at most", "restic", "no change", 2.0),
]
PEAK_BYTES_MAX = 128 * MIB
MANIFEST_BYTES_MAX = 4096


def aims(samples, base):
    """One line an aim: yes, no, or unknown where a figure is missing."""
    lines = []
    for text, peer, figure, wanted in AIMS:
        value = ratio(samples, peer, base, figure) if peer in samples.values else None
        found = "its figure is missing" if value is None else f"ratio {value:.2f}"
        lines.append((text, None if value is None else value >= wanted, found))
    peak = samples.median(base, "peak memory")
    lines.append(("peak memory of the mount at most 128 MiB", None if peak is None else peak <= PEAK_BYTES_MAX,
                  f"{written('peak memory', peak)} MiB"))
    manifest = samples.median(base, "no-change manifest")
    lines.append(("manifest of a no-change backup under 4 KiB",
                  None if manifest is None else manifest < MANIFEST_BYTES_MAX, f"{manifest} bytes"))
    words = {True: "yes", False: "NO", None: "unknown"}
    return "\n".join(f"- {text}: {words[reached]} ({found})" for text, reached, found in lines)


def whole(samples, base, machine):
    """The whole report as Markdown."""
    corpus = samples.corpus
    parts = [
        f"Corpus: {corpus['files']:,} files, {corpus['bytes'] / MIB:,.0f} MiB. {machine}. Rounds: {samples.rounds}.",
        medians_table(samples)]
    if samples.rounds > 1:
        parts.append(spread_table(samples))
    if base is not None:
        parts += ["Above 1, bygone is ahead; for sizes, smaller is better.", ratios_table(samples, base),
                  aims(samples, base)]
    parts += [f"- {name}, {figure}: {reason}" for (name, figure), reason in samples.failures.items()]
    return "\n\n".join(parts) + "\n"


def as_json(samples, machine):
    """Everything as plain values: seconds, bytes, reads a second."""
    return {
        "machine": machine,
        "corpus": samples.corpus,
        "rounds": samples.rounds,
        "contenders": {
            name: {"label": label, "samples": samples.values[name],
                   "medians": {figure: samples.median(name, figure) for figure in samples.values[name]},
                   "failures": {figure: why for (failed, figure), why in samples.failures.items() if failed == name}}
            for name, label in samples.labels.items()},
    }
