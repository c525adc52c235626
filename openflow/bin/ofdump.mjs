#!/usr/bin/env node
// The command `ofdump`; cli/main.ts has what it does. This file exists before anything is compiled, so that npm can link it.
import { existsSync } from 'node:fs';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (!existsSync(main)) {
  process.stderr.write('ofdump: node-openflow is not compiled: run npm run build\n');
  process.exit(1);
}
await import(main.href);
