/** The generated pages of openflow/docs say what the code says. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pages } from '../../openflow/test/tools/pages.ts';

const openflow = join(__dirname, '../../openflow');

// Cure: npm run -w openflow docs
test.each([...pages(join(openflow, 'dist'))])('%s is up to date', (name, text) => {
  expect(readFileSync(join(openflow, 'docs', name), 'utf8') === text).toBe(true);
});
