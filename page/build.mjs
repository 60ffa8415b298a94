// Builds the page into the Python package, with the licences of what is bundled beside it.
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const target = new URL("../airflow_kinesis_audience/ui/static/", import.meta.url);
await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
await build({
  absWorkingDir: new URL(".", import.meta.url).pathname,
  entryPoints: { page: "src/page.tsx", style: "src/style.css" },
  outdir: target.pathname,
  bundle: true,
  splitting: true,
  chunkNames: "[name]",
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
});
const still = new URL("src/still/", import.meta.url);
for (const name of await readdir(still)) await copyFile(new URL(name, still), new URL(name, target));

const licences = [];
for (const name of ["echarts", "preact", "tslib", "zrender"]) {
  const folder = new URL(`node_modules/${name}/`, import.meta.url);
  for (const file of (await readdir(folder)).filter((file) => /^(licen[cs]e|notice)(\.\w+)?$/i.test(file)).sort())
    licences.push(`${name}: ${file}\n\n${await readFile(new URL(file, folder), "utf8")}`);
}
await writeFile(new URL("licences.txt", target), licences.join("\n\n"));
