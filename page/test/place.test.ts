// Addresses of the page's views.

import assert from "node:assert/strict";
import { test } from "node:test";
import { query, read } from "../src/place.ts";

test("an address says which sync and audience is shown, whatever their names are", () => {
  const place = { syncId: "a&b=c d", audienceId: "ü #1", words: "", state: "" };
  assert.deepEqual(read(query(place)), place);
  assert.deepEqual(read(query({ syncId: "s", audienceId: null })), { syncId: "s", audienceId: null, words: "", state: "" });
});

test("the overview has an address of its own, with what is searched for", () => {
  assert.equal(query({}), "?all");
  assert.deepEqual(read(query({ words: "vip", state: "held" })), { syncId: null, audienceId: null, words: "vip", state: "held" });
});
