"""Tests of the pure parts: `python3 -m unittest discover -s scripts/bench.d`."""

import random
import tempfile
import unittest
from pathlib import Path

import counters
import report
import targets
from contenders import Restic
from corpus import Corpus
from samples import Samples
from trees import WorkingCopy, small_files

LINE = ("2026-11-24T22:54:59+00:00 [2116] info: served lookup=12 read=200 forget=7; pushed files=900 bytes=123; "
        "frames opened=44; fetched requests=50 bytes=123456; cache bytes=1000 peak=2000 limit=64000000")
DESCRIBED = {"files": 100, "entries": 110, "bytes": 1 << 20, "image_bytes": 1000, "copied_files": 10}


def samples_of(**contenders):
    """Samples with one value each, of contenders that are given as {figure: value}."""
    made = Samples({name: name for name in contenders}, DESCRIBED, 1)
    for name, figures in contenders.items():
        for figure, value in figures.items():
            made.add(name, figure, value)
    return made


def row(rows, step, against=""):
    return next(found for found in rows if found.step == step and found.against.startswith(against))


class CountersTest(unittest.TestCase):
    def test_a_line_is_found_in_a_log_and_taken_apart(self):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            log.write_text(f"mounted\n{LINE}\nunmounted\n")
            told = counters.parsed(counters.lines_of(log)[-1])
        self.assertEqual(told["served"], {"lookup": 12, "read": 200, "forget": 7})
        self.assertEqual(told["frames"], {"opened": 44})
        self.assertEqual(told["fetched"], {"requests": 50, "bytes": 123456})
        self.assertEqual(told["cache"]["limit"], 64_000_000)

    def test_what_nobody_answers_is_not_counted_as_answered(self):
        self.assertEqual(counters.answered(counters.parsed(LINE[LINE.index("served"):])), {"read": 200, "lookup": 12})

    def test_a_log_without_the_line_tells_nothing(self):
        self.assertEqual(counters.lines_of(Path("/nonexistent")), [])

    def test_groups_that_are_not_there_are_not_missed(self):
        self.assertEqual(counters.total(counters.parsed("served read=3; frames opened=1")), 3)
        self.assertEqual(counters.total({}), 0)

    def test_a_later_line_less_an_earlier_one_is_what_came_between_but_for_the_cache(self):
        earlier = counters.parsed("served read=3; cache peak=9")
        later = counters.parsed("served read=5 lookup=1; cache peak=9")
        self.assertEqual(counters.since(later, earlier), {"served": {"read": 2, "lookup": 1}, "cache": {"peak": 9}})


class TargetsTest(unittest.TestCase):
    def test_a_time_is_reached_at_most_and_a_rate_at_least(self):
        samples = samples_of(bygone={"tar": 1.0, "random 1": 1400}, squashfs={"tar": 2.0, "random 1": 1000})
        rows = targets.rows(samples, "bygone", [])
        self.assertTrue(row(rows, "tar of the whole tree", "squashfs").reached)
        self.assertTrue(row(rows, "random 4 KiB, one reader", "squashfs").reached)
        samples = samples_of(bygone={"tar": 1.0, "random 1": 1000}, squashfs={"tar": 1.1, "random 1": 1000})
        rows = targets.rows(samples, "bygone", [])
        self.assertFalse(row(rows, "tar of the whole tree", "squashfs").reached)
        self.assertFalse(row(rows, "random 4 KiB, one reader", "squashfs").reached)

    def test_the_best_peer_is_the_fastest_of_each_row(self):
        samples = samples_of(bygone={"find": 1.0, "tar": 1.0}, borg={"find": 3.0, "tar": 8.0},
                             restic={"find": 4.0, "tar": 5.0})
        rows = targets.rows(samples, "bygone", [])
        self.assertIn("borg", row(rows, "find with stat", "best").against)
        self.assertIn("restic", row(rows, "tar of the whole tree", "best").against)

    def test_a_peer_that_cannot_be_had_stands_in_by_its_ratio_to_squashfs_and_one_left_out_by_choice_does_not(self):
        samples = samples_of(bygone={"tar": 1.0}, squashfs={"tar": 1.9})
        best = row(targets.rows(samples, "bygone", ["dwarfs"]), "tar of the whole tree", "best")
        self.assertEqual(best.other, "5.20")
        self.assertIn("DwarFS", best.against)
        self.assertIsNone(row(targets.rows(samples, "bygone", []), "tar of the whole tree", "best").reached)

    def test_of_two_restics_the_older_one_is_held_against_by_its_version(self):
        samples = samples_of(**{"bygone": {"tar": 1.0}, "restic-0.19": {"tar": 5.0}, "restic": {"tar": 8.0}})
        samples.labels["restic"] = "restic 0.14.0"
        self.assertEqual(row(targets.rows(samples, "bygone", []), "tar of the whole tree", "restic").other, "8.00")

    def test_calls_of_read_bound_the_requests_of_a_mount_that_does_not_count(self):
        found = row(targets.rows(samples_of(bygone={"reads in second tar": 1}), "bygone", []), "requests, second tar")
        self.assertTrue(found.reached)
        self.assertIn("at most", found.own)

    def test_requests_are_told_by_entry_and_by_file(self):
        samples = samples_of(bygone={})
        samples.count("bygone", "find", counters.parsed("served readdirplus=11"))
        samples.count("bygone", "tar", counters.parsed("served read=120"))
        rows = targets.rows(samples, "bygone", [])
        find, tar = row(rows, "requests, find"), row(rows, "requests, first tar")
        self.assertEqual((find.own, find.reached), ("0.100", True))
        self.assertEqual((tar.own, tar.reached), ("1.200", False))


class ReportTest(unittest.TestCase):
    def test_a_run_of_nothing_and_one_that_failed_are_reported(self):
        samples = samples_of(bygone={})
        self.assertIn("100 files", report.whole(samples, "bygone", "a machine", []))
        samples.fail("bygone", "find", "no answer")
        text = report.whole(samples, "bygone", "a machine", [targets.rows_table(targets.rows(samples, "bygone", []))])
        self.assertIn("failed", text)
        self.assertIn("no answer", text)

    def test_a_label_has_the_version_once(self):
        contender = Restic("restic-0.19", "/bin/true", "/nonexistent")
        contender.version = lambda: "0.19.1"
        self.assertEqual(contender.label(), "restic 0.19.1")
        contender.version = lambda: "0.14.0"
        self.assertEqual(contender.label(), "restic-0.19 0.14.0")


class TreesTest(unittest.TestCase):
    def test_small_files_are_alike_in_two_makings_and_unlike_each_other(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("a", "b"):
                small_files(Path(folder, name), 50, 3)
            read = {name: {path.name: path.read_bytes() for path in Path(folder, name).rglob("file-*")}
                    for name in ("a", "b")}
        self.assertEqual(read["a"], read["b"])
        self.assertEqual(len(read["a"]), 50)
        long = [content for content in read["a"].values() if len(content) > 20]
        self.assertEqual(len(long), len(set(long)))

    def test_a_change_touches_one_in_a_hundred_and_never_the_image(self):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "source")
            small_files(source, 300, 2)
            (source / "image").write_bytes(random.Random(1).randbytes(100_000))
            copy = WorkingCopy(Corpus(source), Path(folder, "copy"))
            changed = copy.change("test")
            same = [path for path in copy.changeable
                    if path.read_bytes() == (source / path.relative_to(copy.root)).read_bytes()]
            self.assertEqual((len(changed), len(same)), (3, 297))
            self.assertNotIn(copy.root / "image", changed)


if __name__ == "__main__":
    unittest.main()
