/** Copies over TLS between real QEMUs, with certificates made for the occasion; and the modes of sockets and files. */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { COPY_METHODS, type CopyMethod } from '../../agent/core/techniques.ts';
import { makeCredentials, whyNoCredentials } from './credentials.ts';
import type { HostName } from './driverContract.ts';
import { gate } from './gate.ts';
import { makeQmpRig, type QmpRig } from './qmpRig.ts';
import { whyNoRealGuests } from './realGuests.ts';

const { reason, real, named } = gate(whyNoCredentials() ?? whyNoRealGuests());
jest.setTimeout(300_000);

let folder: string;
let rig: QmpRig | undefined;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fw-tls-'));
  if (reason !== undefined) return;
  makeCredentials(join(folder, 'ours'));
  makeCredentials(join(folder, 'theirs'));
});
afterEach(async () => {
  await rig?.close();
  rig = undefined;
});
afterAll(() => rmSync(folder, { recursive: true }));

const tls = (name: string) => ({ migrationTls: { dir: join(folder, name) } });
let lastMigration = 0;

async function copy(r: QmpRig, from: HostName, method: CopyMethod, saysTls?: boolean) {
  const to: HostName = from === 'h1' ? 'h2' : 'h1';
  const migration = `tls-${++lastMigration}`;
  const common = { migration, technique: method.technique, options: method.options };
  const at = await r.drivers[to].prepare({ do: 'prepare', guest: r.spec, ...common });
  const over = saysTls === undefined ? (at.tls === undefined ? {} : { tls: at.tls }) : { tls: saysTls };
  const started = r.drivers[from].start({
    ...{ do: 'start', guest: r.spec.name, address: at.address, port: at.port, bandwidthBps: 1.6e9 },
    ...{ downtimeLimitMs: 300, hybridPasses: 1, pauseBeforeSwitchover: false, ...common, ...over },
  });
  const end = async (): Promise<{ event: string; reason?: string | undefined }> => {
    for (;;) {
      const found = r.reports[from].find(
        (m) => m.type === 'event' && m.migration === migration && ['completed', 'failed'].includes(m.event),
      );
      if (found?.type === 'event') return found;
      await r.pause(20);
    }
  };
  return { migration, to, started, end, secured: at.tls };
}
const counts = (r: QmpRig, host: HostName) => r.console(host).split('fw-count').length;
async function countsOn(r: QmpRig, host: HostName): Promise<void> {
  const before = counts(r, host);
  while (counts(r, host) < before + 3) await r.pause(20);
}

real(named('a guest is copied over TLS, whatever the technique, and counts on'), async () => {
  const r = await makeQmpRig(() => tls('ours'));
  rig = r;
  let at: HostName = 'h1';
  for (const method of COPY_METHODS.filter((m) =>
    ['pre-copy', 'post-copy', 'pre-copy, multifd zstd'].includes(m.name),
  )) {
    const c = await copy(r, at, method);
    expect(c.secured).toBe(true);
    await c.started;
    expect(await c.end()).toMatchObject({ event: 'completed' });
    while (r.drivers[c.to].guests()[0]?.state !== 'running') await r.pause(20);
    await r.drivers[at].finish(c.migration);
    await r.drivers[c.to].finish(c.migration);
    await countsOn(r, c.to);
    at = c.to;
  }
  // Nobody but the agent's user may speak to a guest or read what it wrote.
  const files = readdirSync(r.folderOf(at));
  expect(files).toEqual(expect.arrayContaining(['guest.json', 'monitor.sock', 'qmp.sock', 'serial.log']));
  expect(files.map((f) => statSync(join(r.folderOf(at), f)).mode & 0o777)).toEqual(files.map(() => 0o600));
  expect(statSync(r.folderOf(at)).mode & 0o777).toBe(0o700);
});

real(named('nothing moves to a destination that cannot prove who it is, nor in the clear'), async () => {
  const r = await makeQmpRig((host) => tls(host === 'h1' ? 'ours' : 'theirs'));
  rig = r;
  const plain = COPY_METHODS.find((m) => m.name === 'pre-copy') as CopyMethod;
  const clear = await copy(r, 'h1', plain, false);
  await expect(clear.started).rejects.toMatchObject({ code: 'tls-mismatch' });
  await r.drivers.h2.abandon(clear.migration);
  const stranger = await copy(r, 'h1', plain);
  await stranger.started.catch(() => undefined);
  const { event, reason: why } = await stranger.end();
  expect([event, why]).toEqual(['failed', expect.stringMatching(/certificate|TLS|signed/i)]);
  await r.drivers.h2.abandon(stranger.migration);
  expect(r.drivers.h1.guests()[0]?.state).toBe('running');
  await countsOn(r, 'h1');
});

real(named('a source without credentials does not send to a destination that wants them'), async () => {
  const r = await makeQmpRig((host) => (host === 'h2' ? tls('ours') : {}));
  rig = r;
  const c = await copy(r, 'h1', COPY_METHODS[0] as CopyMethod);
  await expect(c.started).rejects.toMatchObject({
    code: 'tls-mismatch',
    message: expect.stringMatching(/migrationTls/),
  });
  await r.drivers.h2.abandon(c.migration);
  await countsOn(r, 'h1');
});
