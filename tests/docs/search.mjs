// Asks the search of the built site, by the site's own code: the worker that its pages load, and the index that it loads.
//
//     node search.mjs SITE QUERY...   prints, per query, a JSON list of the pages found, best first

import { readFileSync, readdirSync } from "node:fs";
import { runInNewContext } from "node:vm";

const [site, ...queries] = process.argv.slice(2);
const workers = `${site}/assets/javascripts/workers`;
const [worker] = readdirSync(workers).filter((name) => name.endsWith(".js"));
let handle;
let answer;
const scope = { console, addEventListener: (_, listener) => (handle = listener), postMessage: (data) => answer(data) };
scope.self = scope;
runInNewContext(readFileSync(`${workers}/${worker}`, "utf8"), scope);

const ask = (data) =>
  new Promise((resolve) => {
    answer = resolve;
    handle({ data });
  });

// As the pages' own script sets it up: a pipeline is given as a list, and titles and tags are searched beside the text.
const index = JSON.parse(readFileSync(`${site}/search/search_index.json`, "utf8"));
await ask({ type: 0, data: { ...index, options: { suggest: false } } });
for (const query of queries) {
  const { data } = await ask({ type: 2, data: query });
  console.log(JSON.stringify(data.items.map(([first]) => first.location.split("#")[0])));
}
