#!/usr/bin/env node
// Entry point named by package.json's `bin`; the program itself is compiled to dist/cli/main.js by `npm run build`.
await import('../dist/cli/main.js');
