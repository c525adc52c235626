/** Orders that no well-meaning controller gives, and more migrations than a host's limits allow, stop before the driver. */
import { createEmulatedDriver, createEmulatedFabric } from '../../../agent/io/emulatedDriver.ts';
import { createGate } from '../../../agent/io/gate.ts';
import { type AgentCommand, agentCommandSchema, type GuestSpec, guestSpecSchema } from '../../../contracts/agent.ts';
import { FairwayError } from '../../../contracts/common.ts';
import { agentConfigSchema } from '../../../contracts/config.ts';
import { silentLog } from '../../../contracts/log.ts';
import { manualClock } from './manualClock.ts';

const guest = (n: number, over: Partial<GuestSpec> = {}) =>
  guestSpecSchema.parse({ name: `vm${n}`, mac: `52:54:00:00:00:0${n}`, memoryMiB: 64, accel: 'emulated', ...over });
const prepare = (n: number, over: Partial<GuestSpec> = {}): AgentCommand =>
  agentCommandSchema.parse({ do: 'prepare', migration: `m${n}`, guest: guest(n, over), technique: 'pre-copy' });
const start = (n: number, over: Record<string, unknown> = {}): AgentCommand =>
  agentCommandSchema.parse({
    ...{
      do: 'start',
      migration: `m${n}`,
      guest: `vm${n}`,
      technique: 'pre-copy',
      address: '192.0.2.2',
      port: 49151 + n,
    },
    ...{ bandwidthBps: 1e9, downtimeLimitMs: 300, hybridPasses: 2, pauseBeforeSwitchover: false, ...over },
  });
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (e: unknown) => (e instanceof FairwayError ? `${e.code} ${e.labels.join()}: ${e.message}` : String(e)),
  );

async function hosts(keys: Record<string, unknown>) {
  const clock = manualClock();
  const fabric = createEmulatedFabric();
  const make = async (host: string, migrationIp: string, guests: GuestSpec[]) => {
    const config = agentConfigSchema.parse({ host, controller: 'ws://x', migrationIp, guests, ...keys });
    const driver = createEmulatedDriver({ config, clock, log: silentLog, fabric });
    await driver.open(() => {});
    const gate = createGate(config, driver);
    const obey = (c: AgentCommand) =>
      codeOf(
        gate.pass(c, async () =>
          c.do === 'prepare' ? driver.prepare(c) : c.do === 'start' ? driver.start(c) : undefined,
        ),
      );
    return { driver, obey };
  };
  return {
    clock,
    h1: await make(
      'h1',
      '192.0.2.1',
      [1, 2, 3].map((n) => guest(n)),
    ),
    h2: await make('h2', '192.0.2.2', []),
  };
}

test('one migration more than the limit is refused for now, says behind what, and goes when one has ended', async () => {
  const { h1, h2, clock } = await hosts({ limits: { outgoing: 1, incoming: 2 } });
  expect(await h2.obey(prepare(1))).toBe('done');
  expect(await h2.obey(prepare(2))).toBe('done');
  expect(await h2.obey(prepare(3))).toBe(
    'host-busy retryable,conflict: h2 already receives as many migrations as its limit allows (2: m1 of vm1, m2 of vm2); ask again when one has ended',
  );
  // The same order again is not one more.
  expect(await h2.obey(prepare(2))).toBe('done');
  expect(await h1.obey(start(1))).toBe('done');
  expect(await h1.obey(start(2))).toMatch(/^host-busy retryable,conflict: h1 already sends .*1: m1 of vm1/);
  clock.advance(60_000);
  expect(await h1.obey(start(2))).toBe('done');
  expect(await h2.obey(prepare(3))).toBe('done');
});

test('orders given at the same time count, too', async () => {
  const { h2 } = await hosts({ limits: { incoming: 1 } });
  const both = await Promise.all([h2.obey(prepare(1)), h2.obey(prepare(2))]);
  expect(both).toEqual(['done', expect.stringMatching(/^host-busy/)]);
});

test('without limits there are none', async () => {
  const { h2 } = await hosts({});
  expect(await Promise.all([1, 2, 3].map((n) => h2.obey(prepare(n))))).toEqual(['done', 'done', 'done']);
});

test.each([
  ['a relative path', prepare(1, { kernel: 'vmlinuz' }), /guest\.kernel: "vmlinuz" is not a plain absolute path/],
  ['a path with detours', prepare(1, { initrd: '/srv/guests/../../etc/shadow' }), /guest\.initrd/],
  ['a path outside of its folders', prepare(1, { kernel: '/etc/shadow' }), /outside of what .* \(\/srv\/guests\)/],
  ['a folder of like name', prepare(1, { kernel: '/srv/guests2/vmlinuz' }), /outside/],
  ['a host name', start(1, { address: 'evil.example' }), /address: evil\.example is not an IP address/],
  ['a peer that runs a program', start(1, { peer: 'qemu+ssh://h2/system?command=/bin/sh' }), /may not set command/],
  ['a peer of its own transport', start(1, { peer: 'qemu+ext://h2/system' }), /is not a URI/],
  [
    'a peer with a key of its choice',
    start(1, { peer: 'qemu+ssh://h2/system?keyfile=/root/k' }),
    /may not set keyfile/,
  ],
  ['a socket for a network', start(1, { peer: 'qemu+tls://h2/system?socket=/run/x' }), /may not set socket/],
])('%s is refused', async (_name, command, why) => {
  const { h1, h2 } = await hosts({ guestFiles: ['/srv/guests'] });
  const answer = await (command.do === 'start' ? h1 : h2).obey(command);
  expect(answer).toMatch(/^bad-command badInput: /);
  expect(answer).toMatch(why);
  expect([...h1.driver.migrations(), ...h2.driver.migrations()]).toEqual([]);
});

test.each([
  'qemu+tls://h2/system',
  'qemu+ssh://root@h2:22/system?no_tty=1',
  'qemu+unix:///system?socket=/run/a/b-c',
  'qemu+tls://[2001:db8::2]/system',
])('a peer such as %s is taken', async (peer) => {
  const { h1, h2 } = await hosts({});
  await h2.obey(prepare(1, { kernel: '/srv/guests/vmlinuz' }));
  expect(await h1.obey(start(1, { peer }))).toBe('done');
});
