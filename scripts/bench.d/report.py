"""Turns samples into the tables: medians, their spread, ratios to bygone, CPU time, and what bygone's mount did.

Pure: samples in, text and plain dictionaries out. Which figures are to be reached is in targets.py.
"""

from statistics import median

from counters import answered, total

# Where a larger figure is the better one.
RATES = {"random 1", "random 8", "streams 1", "streams 8"}
SIZES = {"stored", "peak memory", "second full stored", "changed files", "changed files as one"}
MIB = 1 << 20


def headings(corpus):
    """The figures in the order of the columns, with their headings; `corpus` gives the counts in them."""
    return {
        "ready": "ready s",
        "find": "find s",
        "tar": "tar s",
        "second tar": "second tar s",
        "second find": "find after it s",
        "cp -a": f"cp -a of {corpus['copied_files']:,} files s",
        "read": f"{corpus['image_bytes'] / 1e6:.0f} MB read s",
        "random 1": "random 4 KiB reads/s",
        "random 8": "the same, 8 readers",
        "grep -r": "grep -r s",
        "peak memory": "peak MiB",
        "backup": "backup s",
        "stored": "stored MiB",
        "no change": "no-change s",
        "1% changed": "1% changed s",
    }


# What only few contenders are asked for, or what stands in a table of its own.
FURTHER = {
    "ready, chain of 30": "ready on a chain of 30 s",
    "streams 1": "8 big files, 1 reader MB/s",
    "streams 8": "8 big files, 8 readers MB/s",
    "streams slowest": "slowest reader / fastest",
    "restore": "restore of all s",
    "cp -a of all": "cp -a of all s",
    "find a name": "find a name in 3 points s",
    "diff": "what 2 points differ in s",
    "history": "history of a file s",
    "diff -r": "diff -r of two points s",
    "find in both": "find in both s",
    "second full": "second full, 1% changed, s",
    "second full stored": "its new data MiB",
    "changed files": "changed files, each by zstd, MiB",
    "changed files as one": "as one MiB",
}
CPU = {"cpu find": "find", "cpu tar": "tar", "cpu cp -a": "cp -a", "cpu grep -r": "grep -r",
       "cpu second tar": "second tar", "cpu diff -r": "diff -r"}


def written(figure, value):
    """A value as in the design's table: bytes in MiB, rates whole, seconds to two digits or so."""
    if value is None:
        return "-"
    if figure in SIZES:
        return f"{value / MIB:.2f}" if value < 10 * MIB else f"{value / MIB:.0f}"
    if figure.startswith("streams ") and figure in RATES:
        return f"{value / 1e6:,.0f}"
    if figure in RATES or isinstance(value, int):
        return f"{value:,.0f}"
    if value < 0.1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def table(first, columns, rows):
    lines = ["| " + " | ".join([first, *columns]) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def filled_table(first, columns, rows):
    """The table of those rows that have any figure; an empty text where none has."""
    rows = [row for row in rows if any(value != "-" for value in row[1:])]
    return table(first, columns, rows) if rows else ""


def shown(samples, heads):
    """The figures of `heads` that any contender has, or failed to give."""
    known = {figure for values in samples.values.values() for figure in values}
    known |= {figure for _, figure in samples.failures}
    return [figure for figure in heads if figure in known]


def medians_table(samples, heads, first="median"):
    figures = shown(samples, heads)

    def cell(name, figure):
        return "failed" if samples.failed(name, figure) else written(figure, samples.median(name, figure))

    rows = [[label, *(cell(name, figure) for figure in figures)] for name, label in samples.labels.items()]
    return filled_table(first, [heads[figure] for figure in figures], rows)


def spread_table(samples, heads, first="lowest to highest"):
    figures = shown(samples, heads)

    def cell(name, figure):
        values = samples.values[name].get(figure)
        if not values:
            return "-"
        return f"{written(figure, min(values))} to {written(figure, max(values))}"

    rows = [[label, *(cell(name, figure) for figure in figures)] for name, label in samples.labels.items()]
    return filled_table(first, [heads[figure] for figure in figures], rows)


def ratio(samples, name, base, figure):
    """How many times better `base` is than `name`: above 1, `base` is ahead. None where either has no figure."""
    own, other = samples.median(base, figure), samples.median(name, figure)
    if not own or not other:
        return None
    return own / other if figure in RATES else other / own


def ratios_table(samples, base):
    heads = headings(samples.corpus)
    figures = shown(samples, heads)

    def cell(name, figure):
        value = ratio(samples, name, base, figure)
        return "-" if value is None else f"{value:.2f}"

    rows = [[label, *(cell(name, figure) for figure in figures)]
            for name, label in samples.labels.items() if name != base]
    columns = [heads[figure].removesuffix(" s").removesuffix(" MiB") for figure in figures]
    return table(f"ratio to {base}", columns, rows) if rows else ""


def counted(samples, base, step, count):
    """The median over the rounds of `count`, a function of what the mount did in a step; None where it did not tell."""
    found = samples.counters.get(base, {}).get(step)
    return median(count(counters) for counters in found) if found else None


# What the steps go through: entries where each is looked at, files where each is read.
PASSES = {"find": "entries", "second find": "entries", "tar": "files", "second tar": "files", "cp -a": "copied_files",
          "grep -r": "files"}


def requests_table(samples, base):
    """What bygone's mount did in each step; an empty text where it told nothing."""
    columns = ["requests answered", "each", "by kind", "files pushed", "frames opened", "requests to the store",
               "MiB fetched", "cache's peak MiB"]
    rows = [requests_row(samples, base, step) for step in samples.counters.get(base, {})]
    return table(f"mount of {base}", columns, rows) if rows else ""


def requests_row(samples, base, step):
    divisor = samples.corpus[PASSES[step]] if step in PASSES else None

    def each(value):
        return f"{value:,.0f}" if divisor is None else f"{value / divisor:.3f}"

    def of(group, name, scale=1):
        value = counted(samples, base, step, lambda told: told.get(group, {}).get(name, 0))
        return f"{value / scale:,.0f}" if name in samples.counters[base][step][-1].get(group, {}) else "-"

    every = counted(samples, base, step, total)
    kinds = answered(samples.counters[base][step][-1])
    unit = PASSES.get(step, "").removeprefix("copied_")
    return [step, f"{every:,.0f}", "-" if divisor is None else f"{each(every)} of {unit}",
            ", ".join(f"{kind} {each(count)}" for kind, count in kinds.items()) or "none",
            of("pushed", "files"), of("frames", "opened"), of("fetched", "requests"), of("fetched", "bytes", MIB),
            of("cache", "peak", MIB)]


def whole(samples, base, machine, closing):
    """The whole report as Markdown; `closing` are parts to put before the failures."""
    corpus = samples.corpus
    parts = [
        f"Corpus: {corpus['files']:,} files, {corpus['bytes'] / MIB:,.0f} MiB. {machine}. Rounds: {samples.rounds}.",
        medians_table(samples, headings(corpus))]
    if samples.rounds > 1:
        parts.append(spread_table(samples, headings(corpus)))
    if base is not None:
        ratios = ratios_table(samples, base)
        parts += ["Above 1, bygone is ahead; for sizes, smaller is better.", ratios] if ratios else []
    parts += [medians_table(samples, FURTHER, "further, median"),
              spread_table(samples, FURTHER, "further, lowest to highest"),
              medians_table(samples, CPU, "CPU seconds, mount and reader")]
    if base is not None:
        parts.append(requests_table(samples, base))
    parts += closing
    parts += [f"- {samples.labels[name]}, {figure}: too slow to be done in every round, so done in fewer"
              for name, figure in sorted(samples.once)]
    parts += [f"- {name}, {figure}: {reason}" for (name, figure), reason in samples.failures.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(samples, machine):
    """Everything as plain values: seconds, bytes, reads or bytes a second."""
    return {
        "machine": machine,
        "corpus": samples.corpus,
        "rounds": samples.rounds,
        "contenders": {
            name: {"label": label, "samples": samples.values[name],
                   "medians": {figure: samples.median(name, figure) for figure in samples.values[name]},
                   "counters": samples.counters[name],
                   "failures": {figure: why for (failed, figure), why in samples.failures.items() if failed == name}}
            for name, label in samples.labels.items()},
    }
