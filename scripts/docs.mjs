// Writes the pages of docs/ that are made from the code: `npm run docs`.
import { writeFileSync } from 'node:fs';
import { policyReference } from '../dist/policies/index.js';

const page = new URL('../docs/policy-reference.md', import.meta.url);
writeFileSync(page, policyReference());
process.stdout.write('docs/policy-reference.md\n');
