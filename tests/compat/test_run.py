#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What run.py calls equal, and how it counts."""

import pathlib
import tempfile
import unittest

import run


class Comparison(unittest.TestCase):
    def test_the_same_lines_are_equal_whatever_comments_say(self):
        self.assertEqual(run.differences("a 1\n# here\nb 2\n", "# there\na 1\nb 2\n"), [])

    def test_another_value_a_missing_line_and_one_more_are_differences(self):
        self.assertEqual(len(run.differences("a 1\nb 2\n", "a 1\nb 3\n")), 1)
        self.assertEqual(len(run.differences("a 1\nb 2\n", "a 1\n")), 1)
        self.assertEqual(len(run.differences("a 1\n", "a 1\nb 2\n")), 1)

    def test_a_tolerance_is_a_part_of_the_larger_number(self):
        self.assertEqual(run.differences("~1e-3 sum 1000.0", "~1e-3 sum 1000.9"), [])
        self.assertEqual(len(run.differences("~1e-3 sum 1000.0", "~1e-3 sum 1001.1")), 1)

    def test_another_name_is_no_tolerance(self):
        self.assertEqual(len(run.differences("~1e-3 sum 1.0", "~1e-3 mean 1.0")), 1)

    def test_what_is_no_number_is_a_difference(self):
        self.assertEqual(len(run.differences("~1e-3 sum 1.0", "~1e-3 sum nan")), 1)
        self.assertEqual(len(run.differences("~1e-3 sum 1.0", "~1e-3 sum error")), 1)

    def test_no_output_is_not_equal_to_some(self):
        self.assertEqual(len(run.differences("a 1\n", "")), 1)
        self.assertEqual(run.differences("", ""), [])

    def test_notes_stand_side_by_side(self):
        self.assertEqual(run.notes("# note 5 tokens/s\na", "# note 4 tokens/s"), " (5 tokens/s / 4 tokens/s)")
        self.assertEqual(run.notes("a", "b"), "")


class Record(unittest.TestCase):
    def test_calls_and_requests_are_summed_and_private_calls_told_apart(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "counts")
            path.write_text("# process 1\ncuInit\t1\t2\t0\ntable[2]\t10\t1\t0\n# process 2\ncuInit\t1\t2\t0\n")
            self.assertEqual(run.counts(path), (12, 5, 10, 1))

    def test_without_a_record_nothing_was_called(self):
        self.assertEqual(run.counts(pathlib.Path("/no/such/file")), (0, 0, 0, 0))


if __name__ == "__main__":
    unittest.main()
