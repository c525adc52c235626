/** Configuration: file, environment, --set, and errors that say where the mistake was written. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadAgentConfig, loadControllerConfig, settingsOf, variableName } from '../../../cli/config.ts';
import { agentConfigSchema, controllerConfigSchema } from '../../../contracts/config.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairway-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function write(text: string, name = 'fairway.yaml'): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}
function problem(load: () => unknown): string {
  try {
    load();
  } catch (error) {
    expect(error).toMatchObject({ name: 'FairwayError', code: 'config.invalid', labels: ['badInput'] });
    return (error as Error).message;
  }
  throw new Error('expected a FairwayError');
}

test('without any source the defaults stand', () => {
  const { config, unknownVariables } = loadControllerConfig({ env: {} });
  expect(config).toMatchObject({
    openflow: { host: '127.0.0.1', port: 6653 },
    http: { port: 8653 },
    forwarding: 'managed',
  });
  expect(config.defaultCapacity).toBe(1e9);
  expect(unknownVariables).toEqual([]);
});

test('an empty file is a file without keys', () => {
  expect(loadControllerConfig({ file: write('# nothing\n'), env: {} }).config.http.port).toBe(8653);
});

test('YAML and JSON files are read', () => {
  const yaml = 'switches:\n  "0000000000000001":\n    ports: { eth1: { capacity: 200 Mbit/s } }\n';
  const json = '{ "switches": { "0000000000000001": { "ports": { "eth1": { "capacity": "200 Mbit/s" } } } } }';
  for (const file of [write(yaml), write(json, 'fairway.json')])
    expect(loadControllerConfig({ file, env: {} }).config.switches['0000000000000001']?.ports.eth1?.capacity).toBe(
      200e6,
    );
});

test('stronger first: --set, environment, file', () => {
  const file = write('http: { host: 10.0.0.1, port: 1 }\nforwarding: managed\n');
  const env = { FAIRWAY_HTTP_PORT: '2', FAIRWAY_FORWARDING: 'normal', FAIRWAY_JOURNAL: '' };
  const { config } = loadControllerConfig({ file, env, set: ['http.port=3'] });
  expect(config.http).toEqual({ host: '10.0.0.1', port: 3 });
  expect(config.forwarding).toBe('normal');
  expect(config.journal).toBe('fairway.journal'); // An empty variable is none.
});

test('texts stay texts, numbers, lists and maps are read as YAML', () => {
  const { config } = loadAgentConfig({
    env: { FAIRWAY_HOST: '42', FAIRWAY_INCOMING_PORTS: '[100, 200]', FAIRWAY_OVS_BRIDGE: 'br0' },
    set: ['controller=ws://c:1/?a=b', 'guests=[{ name: g, mac: "52:54:00:00:00:01", memoryMiB: 64 }]'],
  });
  expect(config).toMatchObject({ host: '42', incomingPorts: [100, 200], controller: 'ws://c:1/?a=b' });
  expect(config.ovs).toEqual({ bridge: 'br0', db: 'unix:/run/openvswitch/db.sock' });
  expect(config.guests[0]).toMatchObject({ name: 'g', vcpus: 1 });
});

describe('errors name the key and where it was written', () => {
  test('a wrong value, by line', () => {
    const file = write('forwarding: managed\nhttp:\n  host: 127.0.0.1\n  port: many\n');
    expect(problem(() => loadControllerConfig({ file, env: {} }))).toMatch(/^.*fairway\.yaml:4: http\.port: .*number/);
  });
  test('an unknown key, by its own line', () => {
    const file = write('forwarding: managed\nhttp:\n  port: 1\n  prot: 2\n');
    expect(problem(() => loadControllerConfig({ file, env: {} }))).toBe(`${file}:4: http.prot: there is no such key`);
  });
  test('a wrong value deep in a map and a list', () => {
    const file = write(
      'guests:\n  - name: a\n    mac: 52:54:00:00:00:01\n    memoryMiB: 64\n  - name: b\n    mac: x\n',
    );
    const text = problem(() => loadAgentConfig({ file, env: { FAIRWAY_HOST: 'h', FAIRWAY_CONTROLLER: 'ws://c' } }));
    expect(text).toContain(`${file}:6: guests.1.mac: must be a MAC address`);
    expect(text).toContain(`${file}:5: guests.1.memoryMiB: `);
  });
  test('a missing key', () => {
    expect(problem(() => loadAgentConfig({ env: {} }))).toMatch(/^host: /m);
  });
  test('a wrong capacity', () => {
    const file = write('switches:\n  "0000000000000001":\n    ports:\n      eth1:\n        capacity: quick\n');
    expect(problem(() => loadControllerConfig({ file, env: {} }))).toContain(
      `${file}:5: switches.0000000000000001.ports.eth1.capacity: must be a rate`,
    );
  });
  test('a wrong variable, by its name', () => {
    expect(problem(() => loadControllerConfig({ env: { FAIRWAY_HTTP_PORT: 'many' } }))).toMatch(
      /^FAIRWAY_HTTP_PORT: http\.port: /,
    );
  });
  test('a wrong option', () => {
    expect(problem(() => loadControllerConfig({ env: {}, set: ['http.port=many'] }))).toMatch(
      /^--set http\.port: http\.port: /,
    );
    expect(problem(() => loadControllerConfig({ env: {}, set: ['http.prot=1'] }))).toContain(
      '--set http.prot: there is no such key',
    );
    expect(problem(() => loadControllerConfig({ env: {}, set: ['http.port'] }))).toContain('expected KEY=VALUE');
  });
  test('broken YAML, by line', () => {
    const file = write('http:\n  port: [1\nforwarding: x\n');
    expect(problem(() => loadControllerConfig({ file, env: {} }))).toMatch(/fairway\.yaml:[234]: /);
  });
  test('a file that is not there, or is a list', () => {
    expect(problem(() => loadControllerConfig({ file: join(folder, 'none'), env: {} }))).toContain('cannot read');
    expect(problem(() => loadControllerConfig({ file: write('- a\n'), env: {} }))).toContain(
      'expected keys and values',
    );
  });
});

test('variables that look misspelt are named', () => {
  const env = { FAIRWAY_HTP_PORT: '1', FAIRWAY_HOST: 'of-the-agent', FAIRWAY_TOKEN: 'x', PATH: '/bin' };
  expect(loadControllerConfig({ env }).unknownVariables).toEqual(['FAIRWAY_HTP_PORT']);
});

test('variable names are upper snake case', () => {
  expect(variableName(['policy', 'redisUrl'])).toBe('FAIRWAY_POLICY_REDIS_URL');
  expect(variableName(['tokenFile'])).toBe('FAIRWAY_TOKEN_FILE');
});

test('the example files are valid', () => {
  const example = (name: string) => join(import.meta.dirname, '../../../examples', name);
  expect(loadControllerConfig({ file: example('controller.yaml'), env: {} }).config.policy.store).toBe('file');
  expect(loadAgentConfig({ file: example('agent.yaml'), env: {} }).config.guests).toHaveLength(1);
});

test('docs/configuration.md has every key with its variable, and no other', () => {
  const text = readFileSync(join(import.meta.dirname, '../../../docs/configuration.md'), 'utf8');
  const documented = [...text.matchAll(/^\| `([A-Za-z.]+)` \| `(FAIRWAY_[A-Z_]+)` \|/gm)].map((m) => `${m[1]} ${m[2]}`);
  const wanted = [controllerConfigSchema, agentConfigSchema].flatMap((s) =>
    settingsOf(s).map(({ path }) => `${path.join('.')} ${variableName(path)}`),
  );
  expect(documented).toEqual(wanted);
});
