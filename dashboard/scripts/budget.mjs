// What a browser loads before it shows its first page, in bytes as they are before compression.
import { readFileSync, statSync } from "node:fs";

const LIMIT = 250 * 1024;
const FIRST = ["index.html", "src/pages/Dashboard.vue"];
const manifest = JSON.parse(readFileSync("dist/.vite/manifest.json", "utf-8"));
const files = new Set(["index.html"]);

function take(name) {
  const { file, css = [], imports = [] } = manifest[name];
  if (files.has(file)) return;
  for (const one of [file, ...css]) files.add(one);
  imports.forEach(take);
}

FIRST.forEach(take);
const total = [...files].reduce((sum, name) => sum + statSync(`dist/${name}`).size, 0);
console.log(`first load: ${Math.ceil(total / 1024)} KiB of ${LIMIT / 1024} KiB, in ${files.size} files`);
process.exit(total <= LIMIT ? 0 : 1);
