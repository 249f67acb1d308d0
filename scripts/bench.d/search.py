"""What is asked of a repository without a mount: where a name is in all points, what two points differ in, and what
became of one file.

Every answer is looked at: it has to tell of the file that changed. Who has no command of its own for a question is asked
point by point, as a person would do it; who has none at all is not asked.
"""

import json
import subprocess
import time

from machine import Failed, timed

# The figures, in the order of the questions.
FIGURES = ["find a name", "diff", "history"]


def commands_of(contender, figure, path):
    """The commands that answer a question about a file that changed between the two newest points; none for some kinds.

    `path` is the file's, absolute.
    """
    asking = {"bygone": bygone, "restic": restic, "rustic": rustic, "borg": borg}.get(contender.kind)
    return [[contender.binary, *command] for command in asking(contender, figure, path)] if asking else []


def bygone(_contender, figure, path):
    return {"find a name": [["find", path.name]], "diff": [["diff", "latest~1", "latest"]],
            "history": [["history", "--json", path]]}[figure]


def restic(contender, figure, path):
    if figure == "diff":
        snapshots = json.loads(listed(contender, "snapshots", "--json"))
        newest = sorted(snapshots, key=lambda snapshot: snapshot["time"])[-2:]
        return [["diff", *(snapshot["id"] for snapshot in newest)]]
    return [["find", path.name if figure == "find a name" else path]]


def rustic(_contender, figure, path):
    return {"find a name": [["find", "--glob", path.name]], "diff": [["diff", "latest~1", "latest"]],
            "history": [["find", "--path", path]]}[figure]


def borg(contender, figure, path):
    archives = listed(contender, "list", "--short").split()
    if figure == "diff":
        older, newer = archives[-2:]
        return [["diff", f"::{older}", newer]]
    pattern = f"sh:**/{path.name}" if figure == "find a name" else path
    return [["list", f"::{archive}", pattern] for archive in archives]


def listed(contender, *command):
    """What a contender prints of the points that it has; not timed."""
    done = subprocess.run([contender.binary, *command], capture_output=True, check=False, env=contender.environment())
    if done.returncode != 0:
        raise Failed(f"{contender.name} lists no points: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()


def asked(contender, figure, path, limit):
    """The seconds that an answer takes, None from who cannot be asked. Raises Failed for a wrong answer."""
    commands = commands_of(contender, figure, path)
    if not commands:
        return None
    start = time.monotonic()
    # Of diff, 1 says that there are differences.
    statuses = (0, 1) if contender.kind == "bygone" and figure == "diff" else (0,)
    answers = [timed(command, limit, contender.environment(), statuses).printed for command in commands]
    seconds = time.monotonic() - start
    sought = '"changed"' if contender.kind == "bygone" and figure == "history" else path.name
    if sought not in "".join(answers):
        raise Failed(f"the answer does not tell of {path}")
    return seconds
