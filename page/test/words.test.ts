// How numbers are written: bytes in a unit that one can read, and what a run cost.

import assert from "node:assert/strict";
import { test } from "node:test";

import { costOf, size } from "../src/words.ts";

test("bytes are written by their largest unit, with three digits", () => {
  assert.deepEqual([0, 640, 999, 1_000, 1_536].map(size), ["0 B", "640 B", "999 B", "1 kB", "1.54 kB"]);
  assert.deepEqual([999_499, 999_500, 20_971_520, 1.2e12, 4.5e15, 1.5e18].map(size), ["999 kB", "1 MB", "21 MB", "1.2 TB", "4.5 PB", "1,500 PB"]);
});

test("the cost of a run is that of its tasks, with what they read where the engine says it", () => {
  const diff = { statements: 7, seconds: 1.284, bytesScanned: null };
  assert.equal(costOf([null, null]), "–");
  assert.equal(costOf([diff, { ...diff, statements: 1, seconds: 0 }, null]), "8 statements, 1.3 s");
  assert.equal(costOf([{ ...diff, bytesScanned: 3_000_000_000 }, { ...diff, bytesScanned: 412_000_000 }]), "14 statements, 2.6 s, 3.41 GB read");
  assert.equal(costOf([{ ...diff, bytesScanned: 0 }, diff]), "14 statements, 2.6 s, 0 B read");
});
