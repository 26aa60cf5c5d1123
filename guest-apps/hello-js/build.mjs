// Makes a component of app.js: node build.mjs [OUTPUT]

import { componentize } from "@bytecodealliance/componentize-js";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

// The JavaScript engine that is put into the component knows WASI by this version and no other.
// The interfaces it uses are the same in the version in wit/, so only the number is changed.
const OURS = "0.2.12";
const THE_ENGINES = "0.2.10";

async function renumberedWit(folder) {
  await cp(here("../../wit"), folder, { recursive: true });
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith(".wit")) continue;
    const file = join(entry.parentPath ?? entry.path, entry.name);
    await writeFile(file, (await readFile(file, "utf8")).replaceAll(OURS, THE_ENGINES));
  }
}

const output = process.argv[2] ?? "hello-js.wasm";
const wit = await mkdtemp(join(tmpdir(), "hello-js-"));
try {
  await renumberedWit(wit);
  const { component } = await componentize({
    sourcePath: here("app.js"),
    witPath: wit,
    worldName: "http",
  });
  await writeFile(output, component);
} finally {
  await rm(wit, { recursive: true });
}
