// What a browser loads before it shows its first page, in bytes as they are before compression.
import { readFileSync, statSync } from "node:fs";

const LIMIT = 250 * 1024;
const folder = process.argv[2] ?? "dist";
const html = readFileSync(`${folder}/index.html`, "utf-8");
const first = [...html.matchAll(/(?:src|href)="\.\/([^"]+)"/g)].map((match) => match[1]);
const total = ["index.html", ...first].reduce((sum, name) => sum + statSync(`${folder}/${name}`).size, 0);
console.log(`first load: ${(total / 1024).toFixed(0)} KiB of ${LIMIT / 1024} KiB, in ${first.length + 1} files`);
process.exit(total <= LIMIT ? 0 : 1);
