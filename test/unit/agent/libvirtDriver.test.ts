/**
 * The libvirt driver against a `virsh` of the test's own: what real daemons do only now and then, every time. The copy of a
 * quiet guest is over before `virsh` has told that it began; a copy that has turned breaks before anybody has heard that it
 * turned; `virsh` is killed, and libvirt goes on without it.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DriverReport, EventMessage, MigrationDriver } from '../../../agent/core/driver.ts';
import { createLibvirtDriver } from '../../../agent/io/libvirtDriver.ts';
import type { AgentCommandOf, GuestSpec } from '../../../contracts/agent.ts';
import { systemClock } from '../../../contracts/clock.ts';
import { agentConfigSchema } from '../../../contracts/config.ts';
import { silentLog } from '../../../contracts/log.ts';

/** What each stand-in answers beside copies and their statistics. */
const common = (copies: string): string => `#!/bin/sh
shift 3
case "$1" in
  version) echo 'Running against daemon: 11.3.0'; echo 'Running hypervisor: QEMU 10.0.2' ;;
  help) echo '--postcopy --parallel --comp-zstd-level --available-switchover-bandwidth' ;;
  event) exec tail -n +1 -f events ;;
  list) echo vm1 ;;
  domstate*dumpxml*) [ -e locked ] && { cat locked >&2; exit 1; }
    printf '%s\\n=fairway=\\n<domain type="qemu"><memory unit="KiB">98304</memory><vcpu>1</vcpu> machine="pc"\\n=fairway=\\n' "$(cut -d' ' -f1 state)"
    echo ' vnet0  user  -  virtio  52:54:00:00:00:01' ;;
  dominfo*) printf 'Persistent: no\\n=fairway=\\n300\\n=fairway=\\n8192\\n' ;;
${copies}
esac
exit 0
`;

/** Its folder: `events` is what it tells listeners, `left` that the guest has gone, `done` lets a copy end. */
const QUIET = `
  migrate) echo "2026-01-02 03:04:05.006+0000: event 'lifecycle' for domain 'vm1': Suspended Migrated" >>events
    : >left
    while [ ! -e done ]; do sleep 0.02; done
    # listeners hear late of what came before the end
    case "$*" in *--postcopy*) { sleep 0.5; echo "2026-01-02 03:04:05.007+0000: event 'lifecycle' for domain 'vm1': Suspended Post-copy" >>events; } & ;; esac ;;
  domjobinfo) [ -e left ] && { echo 'error: failed to get domain' >&2; exit 1; } ;;
`;

/** `fails` ends a copy with what is in it, `over` libvirt's own work on it; `state` is how the guest is, without it there is none. */
const BREAKING = `
  migrate) echo $$ >pid
    while [ ! -e fails ]; do sleep 0.02; done
    cat fails >&2; exit 1 ;;
  domjobinfo) [ -e state ] || { echo 'error: failed to get domain' >&2; exit 1; }
    [ -e over ] && { echo 'Job type: 0'; exit 0; }
    echo >>asked
    printf 'Job type: 2\\ntime_elapsed: 100\\nmemory_total: 9000000\\nmemory_processed: %d\\nmemory_remaining: 5000000\\n' "$(wc -l <asked)" ;;
  domstate) cat state 2>/dev/null || { echo 'error: failed to get domain' >&2; exit 1; } ;;
`;

let folder: string;
let driver: MigrationDriver;
let reports: DriverReport[];
afterEach(async () => {
  await driver.close({ stopGuests: false });
  rmSync(folder, { recursive: true, force: true });
});
const file = (name: string): string => join(folder, name);
const events = (): EventMessage[] => reports.flatMap((r) => (r.type === 'event' && r.event !== 'stream' ? [r] : []));
const names = (): string[] => events().map((e) => e.event);
async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** The other end: a copy comes in, and `state` is how its guest is; without it there is none. */
const INCOMING = `
  domcapabilities) ;;
  domstate) cat state 2>/dev/null || { echo 'error: failed to get domain' >&2; exit 1; } ;;
`;

/** A driver whose `virsh` is such a stand-in, and a guest that runs. */
async function open(copies: string, clock = systemClock()): Promise<void> {
  folder = mkdtempSync(join(tmpdir(), 'fw-virsh-'));
  const virsh = file('virsh');
  writeFileSync(virsh, common(copies).replace('shift 3', `cd '${folder}'\nshift 3`), { mode: 0o755 });
  writeFileSync(file('events'), '');
  writeFileSync(file('state'), 'running (booted)');
  await openDriver(clock);
}
/** Another agent of the same host, when there has been one. */
async function openDriver(clock = systemClock()): Promise<void> {
  const config = agentConfigSchema.parse({
    ...{ host: 'h1', controller: 'ws://127.0.0.1:1', driver: 'libvirt', runDir: file('run') },
    libvirt: { uri: 'test:///default', peerUri: 'test:///default', virsh: file('virsh') },
  });
  reports = [];
  driver = createLibvirtDriver({ config, clock, log: silentLog });
  driver.setProgressPeriod(20);
  await driver.open((r) => reports.push(r));
}
const start = (over: Partial<AgentCommandOf<'start'>>): Promise<void> =>
  driver.start({
    ...{ do: 'start', migration: 'm1', guest: 'vm1', technique: 'pre-copy', address: '127.0.0.1', port: 9 },
    ...{ peer: 'test:///other', bandwidthBps: 1e9, downtimeLimitMs: 300, hybridPasses: 1 },
    ...{ pauseBeforeSwitchover: true, ...over },
  });

test.each([
  ['a quiet guest that slips through its hold before the copy is known to have begun', 'pre-copy', []],
  ['a copy that turned, of which listeners hear after its end,', 'post-copy', ['postcopyStarted']],
] as const)(
  '%s is told of all the same',
  async (_name, technique, turned) => {
    await open(QUIET);
    const started = start({ technique });
    await until(() => events().length > 0);
    expect(names()).toEqual(['preSwitchover']);
    appendFileSync(file('done'), '');
    await started;
    await driver.continueSwitchover('m1');
    await until(() => names().includes('completed'));
    expect(names()).toEqual(['preSwitchover', ...turned, 'completed']);
  },
  120_000,
);

describe('a copy that breaks', () => {
  /** The copy has ended so, and the guest is so; libvirt has said why. */
  async function breaks(state: string | undefined, why: string): Promise<EventMessage> {
    if (state === undefined) rmSync(file('state'));
    else writeFileSync(file('state'), state);
    appendFileSync(file('over'), '');
    // Written whole, then named.
    writeFileSync(file('fails.new'), why);
    renameSync(file('fails.new'), file('fails'));
    await until(() => names().some((e) => ['failed', 'cancelled', 'completed'].includes(e)));
    return events().at(-1) as EventMessage;
  }
  const WHY = 'error: operation failed: job migration out failed: Unable to write to socket: Connection timed out';

  test('before it turned: the guest goes on here, and the reason is libvirt’s', async () => {
    await open(BREAKING);
    await start({ technique: 'pre-copy', mayTurnPostcopy: true });
    const { reason } = await breaks('running (migration canceled)', WHY);
    // Held, and it has not been said that it could switch over.
    expect([names(), reason]).toEqual([['failed'], WHY.replace('error: ', '')]);
    expect(driver.guests().map((g) => g.state)).toEqual(['running']);
  }, 30_000);

  test.each(['paused (post-copy failed)', 'paused (post-copy)'])(
    'after it turned, of which nobody heard (%s): it is never told as one that goes on here',
    async (state) => {
      await open(BREAKING);
      await start({ technique: 'post-copy', pauseBeforeSwitchover: false });
      const { reason } = await breaks(state, WHY);
      expect(names()).toEqual(['postcopyStarted', 'failed']);
      expect(reason).toMatch(/broke during post-copy: .*Connection timed out; .*: stop neither machine/);
      await until(() => driver.guests()[0]?.state === 'paused');
      await expect(driver.cancel('m1')).resolves.toBeUndefined();
      await expect(start({ migration: 'm2' })).rejects.toMatchObject({ code: 'guest-not-running' });
    },
    30_000,
  );
});

test('a guest whose post-copy broke after it arrived is known to an agent that is started since, though libvirt gives no definition out', async () => {
  await open(INCOMING);
  const [vm1] = driver.guests();
  expect(vm1?.spec).toMatchObject({ name: 'vm1', memoryMiB: 96 });
  const guest = { ...(vm1?.spec as GuestSpec), labels: { of: 'the one that came' } };
  rmSync(file('state'));
  const happens = (what: string) =>
    appendFileSync(file('events'), `2026-01-02 03:04:05.006+0000: event 'lifecycle' for domain 'vm1': ${what}\n`);
  happens('Stopped Destroyed');
  await until(() => driver.guests().length === 0);

  await driver.prepare({ do: 'prepare', migration: 'm1', guest, technique: 'post-copy', options: {} });
  writeFileSync(file('locked'), 'error: Timed out during operation: cannot acquire state change lock');
  writeFileSync(file('state'), 'paused (migrating)');
  happens('Started Migrated');
  await until(() => driver.guests()[0]?.state === 'incoming');
  writeFileSync(file('state'), 'running (post-copy)');
  happens('Resumed Post-copy');
  await until(() => names().includes('resumed'));
  writeFileSync(file('state'), 'running (post-copy failed)');

  await driver.close({ stopGuests: false });
  // Who listens from now on is not told what was.
  writeFileSync(file('events'), '');
  await openDriver();
  expect(driver.guests()).toEqual([{ spec: guest, state: 'running', portName: '' }]);
  expect(driver.migrations()).toMatchObject([{ migration: 'm1', role: 'destination' }]);
  await expect(driver.abandon('m1')).rejects.toMatchObject({ code: 'not-abandonable' });
  // It is taken up by hand: libvirt tells of it again.
  rmSync(file('locked'));
  writeFileSync(file('state'), 'running (migrated)');
  happens('Resumed Migrated');
  await until(() => driver.guests()[0]?.portName === 'vnet0');
  expect(driver.guests().map((g) => g.state)).toEqual(['running']);
}, 60_000);

describe('a virsh that is killed', () => {
  /** Clock seconds pass twenty times as fast. */
  const begun = async (): Promise<void> => {
    await open(BREAKING, systemClock(20));
    await start({ pauseBeforeSwitchover: false });
    await until(() => existsSync(file('pid')));
    execFileSync('sh', ['-c', `kill -9 "$(cat '${file('pid')}')"`]);
    await until(() => existsSync(file('run/migrations/m1.status')));
  };
  const progressSince = (from: number): boolean => reports.slice(from).some((r) => r.type === 'progress');

  test('ends no copy: libvirt goes on, and where the guest is then says what became of it', async () => {
    await begun();
    const from = reports.length;
    await driver.setBandwidth({ do: 'setBandwidth', migration: 'm1', bandwidthBps: 5e8 });
    await until(() => progressSince(from));
    expect(names()).toEqual([]);
    rmSync(file('state'));
    await until(() => names().length > 0);
    expect(names()).toEqual(['completed']);
  }, 30_000);

  test('of a copy that libvirt gave up: the guest is still here', async () => {
    await begun();
    appendFileSync(file('over'), '');
    await until(() => names().length > 0);
    expect(events()).toMatchObject([{ event: 'failed', reason: 'virsh was ended before the copy was' }]);
    expect(driver.guests().map((g) => g.state)).toEqual(['running']);
  }, 30_000);
});
