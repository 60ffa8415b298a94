// The points of sparklines.

import assert from "node:assert/strict";
import { test } from "node:test";
import { overview } from "../src/overview.ts";
import { hasOlder, place, trendOf } from "../src/trend.ts";
import { answers, changeSet, day, delivery } from "./answers.ts";

test("a trend has the last fourteen runs that list the audience, the oldest first", () => {
  const runs = Array.from({ length: 16 }, (_, n) => changeSet(day(30 - n), { members: n }));
  assert.deepEqual(trendOf("a", runs).map((point) => point.members), [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
  assert.deepEqual(trendOf("other", runs), []);
});

test("older runs are asked for until there are enough, or the first one is there", () => {
  const runs = Array.from({ length: 14 }, (_, n) => changeSet(day(30 - n)));
  assert.deepEqual([hasOlder([]), hasOlder(runs), hasOlder(runs.slice(1)), hasOlder([changeSet(day(1), { previousAsOf: null })])], [false, false, true, false]);
});

test("points lie between the least and the most, and a flat line is halfway", () => {
  assert.deepEqual(place([5, 15, 10]), [[0, 0], [0.5, 1], [1, 0.5]]);
  assert.deepEqual(place([7, 7]), [[0, 0.5], [1, 0.5]]);
});

test("an inserted run changes neither the numbers of now nor the day's sums", () => {
  const sets = [changeSet(day(2)), changeSet(day(2) - 3_600_000, { entered: 50, inserted: true })];
  const [sync] = overview(answers({ changeSets: sets }));
  assert.deepEqual([sync!.runs.length, sync!.audiences[0]!.day.entered], [1, 5]);
});

test("dead letters are those of the newest delivery of each destination", () => {
  const deliveries = [delivery(day(1), { deadLetters: 9 }), delivery(day(2), { deadLetters: 2 }), delivery(day(1), { destination: "firehose://x/y", deadLetters: 1 })];
  assert.equal(overview(answers({ changeSets: [changeSet(day(2))], deliveries }))[0]!.deadLetters, 3);
});
