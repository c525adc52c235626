/**
 * The import rule and the purity rule of `biome.json`: every violation below must be found, every allowed import must
 * pass. The files are written to a temporary folder shaped like the repository and linted with the project's own
 * configuration.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const BIOME = join(ROOT, 'node_modules/@biomejs/biome/bin/biome');

/** Specifiers by the room whose file imports them. */
const FORBIDDEN: Record<string, string[]> = {
  'openflow/src': ['../../contracts/common.ts', 'node:net', 'fs', 'zod'],
  topology: ['../contracts/common.ts', '../policies/plan.ts', 'node-openflow', 'node:fs'],
  policies: ['../controller/core/state.ts', '../sim/demo.ts', 'node-openflow', 'node:child_process', 'ioredis'],
  contracts: ['../policies/plan.ts', '../topology/graph.ts', 'node-openflow', 'node:fs'],
  'controller/core': [
    '../io/server.ts',
    '../../agent/core/driver.ts',
    '../../sim/demo.ts',
    'node:net',
    'ws',
    'ioredis',
  ],
  'controller/apps': [
    '../core/state.ts',
    '../io/server.ts',
    '../../topology/graph.ts',
    '../../policies/plan.ts',
    'node:net',
    'ws',
  ],
  'controller/io': ['../../agent/io/agent.ts', '../../sim/demo.ts', '../../cli/main.ts', '../../openflow/src/index.ts'],
  'agent/core': [
    '../io/qmp.ts',
    '../../policies/plan.ts',
    '../../controller/core/state.ts',
    'node:net',
    'node-openflow',
  ],
  'agent/io': ['../../policies/plan.ts', '../../controller/io/server.ts', '../../topology/graph.ts', 'node-openflow'],
  sim: ['../openflow/src/index.ts'],
  cli: ['../openflow/src/index.ts'],
};
const ALLOWED: Record<string, string[]> = {
  'openflow/src': ['./wire.ts', './v13/messages.ts'],
  'openflow/src/v13': ['../wire.ts', './match.ts'],
  topology: ['./graph.ts'],
  policies: ['./plan.ts', '../topology/graph.ts', '../contracts/policy.ts', 'mathjs', 'mathjs/number'],
  'policies/cost': ['../plan.ts', '../../topology/graph.ts'],
  contracts: ['./common.ts', 'zod'],
  'controller/core': ['./state.ts', '../../policies/plan.ts', '../../topology/graph.ts', 'node-openflow'],
  'controller/apps': ['./learning.ts', '../../contracts/common.ts', 'node-openflow'],
  'controller/io': [
    '../core/state.ts',
    '../apps/learning.ts',
    '../../contracts/rest.ts',
    'node-openflow',
    'node:net',
    'ws',
    'ioredis',
  ],
  'agent/core': ['./driver.ts', '../../contracts/agent.ts'],
  'agent/io': ['../core/driver.ts', '../../contracts/agent.ts', 'node:net', 'ws'],
  sim: ['../controller/io/server.ts', '../agent/io/agent.ts', '../policies/plan.ts', 'node-openflow'],
  cli: ['../controller/io/server.ts', '../sim/demo.ts', '../agent/io/agent.ts', 'node-openflow'],
};
const PURE = ['openflow/src', 'topology', 'policies', 'controller/core', 'controller/apps', 'agent/core'];
const IMPURE = [
  'Date.now()',
  'new Date()',
  'Math.random()',
  'performance.now()',
  'setTimeout(String, 1)',
  'setInterval(String, 1)',
  'globalThis.setTimeout(String, 1)',
  'process.env',
  'fetch',
];

let folder: string;
let found: Map<string, string[]>;
const fileOf = (kind: string, room: string, index: number) => `${room}/${kind}${index}.ts`;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairway-lint-'));
  copyFileSync(join(ROOT, 'biome.json'), join(folder, 'biome.json'));
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  const each = (kind: string, table: Record<string, string[]>, text: (s: string) => string) => {
    for (const [room, list] of Object.entries(table))
      for (const [i, s] of list.entries()) write(fileOf(kind, room, i), text(s));
  };
  each('forbidden', FORBIDDEN, (s) => `import * as x from '${s}';\nexport const y = x;\n`);
  each('typeOnly', FORBIDDEN, (s) => `export type { X } from '${s}';\n`);
  each('dynamic', FORBIDDEN, (s) => `export const x = () => import('${s}');\n`);
  each('allowed', ALLOWED, (s) => `import * as x from '${s}';\nexport const y = x;\n`);
  for (const room of [...PURE, 'controller/io']) each('impure', { [room]: IMPURE }, (s) => `export const x = ${s};\n`);

  const run = spawnSync(process.execPath, [BIOME, 'lint', '--reporter=json', '--max-diagnostics=none', '.'], {
    cwd: folder,
    encoding: 'utf8',
  });
  const report = JSON.parse(run.stdout) as { diagnostics: { category: string; location: { path: string } }[] };
  found = new Map();
  for (const d of report.diagnostics) found.set(d.location.path, [...(found.get(d.location.path) ?? []), d.category]);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const rows = (table: Record<string, string[]>) =>
  Object.entries(table).flatMap(([room, list]) => list.map((s, i) => ({ room, s, i })));

test.each(rows(FORBIDDEN))('$room may not import $s', ({ room, i }) => {
  for (const kind of ['forbidden', 'typeOnly', 'dynamic'])
    expect(found.get(fileOf(kind, room, i))).toContain('lint/style/noRestrictedImports');
});

test.each(rows(ALLOWED))('$room may import $s', ({ room, i }) => {
  expect(found.get(fileOf('allowed', room, i)) ?? []).not.toContain('lint/style/noRestrictedImports');
});

const PURITY = ['lint/style/noRestrictedGlobals', 'lint/nursery/noJsRestrictedProperties'];
test.each(PURE.flatMap((room) => IMPURE.map((s, i) => ({ room, s, i }))))('$room may not use $s', ({ room, i }) => {
  expect((found.get(fileOf('impure', room, i)) ?? []).filter((c) => PURITY.includes(c))).not.toEqual([]);
});

test('outside the pure rooms the same is allowed', () => {
  const categories = IMPURE.flatMap((_s, i) => found.get(fileOf('impure', 'controller/io', i)) ?? []);
  expect(categories.filter((c) => PURITY.includes(c))).toEqual([]);
});

test('a violation makes the linter fail', () => {
  expect(() =>
    execFileSync(process.execPath, [BIOME, 'lint', '--error-on-warnings', fileOf('forbidden', 'policies', 0)], {
      cwd: folder,
      stdio: 'pipe',
    }),
  ).toThrow();
});

test('no source file switches the linter or the compiler off', () => {
  const rooms = ['openflow', 'topology', 'policies', 'contracts', 'controller', 'agent', 'sim', 'cli', 'test'];
  const files = rooms
    .flatMap((room) => readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' }).map((f) => join(room, f)))
    .filter((f) => /\.m?ts$/.test(f) && !/(node_modules|dist)\//.test(f));
  expect(files.length).toBeGreaterThan(10);
  const markers = /biome[-]ignore|eslint[-]disable|@ts[-](ignore|nocheck)/;
  expect(files.filter((f) => markers.test(readFileSync(join(ROOT, f), 'utf8')))).toEqual([]);
});
