"""What was measured: figures by contender and name, one value or more a round, and what failed. Knows no text."""

from statistics import median


class Samples:
    """`values` and `counters` by contender, then by name, each a list; `failures` by the same two together."""

    def __init__(self, labels, corpus, rounds):
        self.labels = labels
        self.corpus = corpus
        self.rounds = rounds
        self.values = {name: {} for name in labels}
        self.counters = {name: {} for name in labels}
        self.failures = {}
        self.once = set()  # what was too slow to be done in every round
        self.peaks = {}  # of the round that is going on: the largest of a contender's mounts so far, in bytes

    def add(self, name, figure, value):
        if value is not None:
            self.values[name].setdefault(figure, []).append(value)

    def count(self, name, step, counters):
        """Note what a mount did in a step."""
        if counters is not None:
            self.counters[name].setdefault(step, []).append(counters)

    def peak(self, name, value):
        if value is not None:
            self.peaks[name] = max(value, self.peaks.get(name, 0))

    def end_round(self):
        for name, value in self.peaks.items():
            self.add(name, "peak memory", value)
        self.peaks.clear()

    def fail(self, name, figure, reason):
        self.failures[name, figure] = reason

    def failed(self, name, figure):
        return (name, figure) in self.failures

    def median(self, name, figure):
        values = self.values.get(name, {}).get(figure)
        return median(values) if values and not self.failed(name, figure) else None

    def named(self, *kinds):
        """The contenders of these kinds."""
        return [name for name in self.labels if any(name == kind or name.startswith(f"{kind}-") for kind in kinds)]
