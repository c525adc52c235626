/**
 * The libvirt driver against a `virsh` of the test's own: what real daemons do only now and then, every time. The copy of a
 * quiet guest is over before `virsh` has told that it began.
 */
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DriverReport } from '../../../agent/core/driver.ts';
import { createLibvirtDriver } from '../../../agent/io/libvirtDriver.ts';
import { systemClock } from '../../../contracts/clock.ts';
import { agentConfigSchema } from '../../../contracts/config.ts';
import { silentLog } from '../../../contracts/log.ts';

/** Its folder: `events` is what it tells listeners, `left` that the guest has gone, `done` lets a copy end. */
const VIRSH = (folder: string): string => `#!/bin/sh
cd '${folder}'
shift 3
case "$1" in
  version) echo 'Running against daemon: 11.3.0'; echo 'Running hypervisor: QEMU 10.0.2' ;;
  help) echo '--postcopy --parallel --comp-zstd-level --available-switchover-bandwidth' ;;
  event) exec tail -n +1 -f events ;;
  list) echo vm1 ;;
  migrate) echo "2026-01-02 03:04:05.006+0000: event 'lifecycle' for domain 'vm1': Suspended Migrated" >>events
    : >left
    while [ ! -e done ]; do sleep 0.02; done
    # listeners hear late of what came before the end
    case "$*" in *--postcopy*) { sleep 0.5; echo "2026-01-02 03:04:05.007+0000: event 'lifecycle' for domain 'vm1': Suspended Post-copy" >>events; } & ;; esac ;;
  domjobinfo) [ -e left ] && { echo 'error: failed to get domain' >&2; exit 1; } ;;
  domstate*dumpxml*) printf 'running\\n=fairway=\\n<domain type="qemu"><memory unit="KiB">98304</memory><vcpu>1</vcpu> machine="pc"\\n=fairway=\\n'
    echo ' vnet0  user  -  virtio  52:54:00:00:00:01' ;;
  dominfo*) printf 'Persistent: no\\n=fairway=\\n300\\n=fairway=\\n8192\\n' ;;
esac
exit 0
`;

test.each([
  ['a quiet guest that slips through its hold before the copy is known to have begun', 'pre-copy', []],
  ['a copy that turned, of which listeners hear after its end,', 'post-copy', ['postcopyStarted']],
] as const)(
  '%s is told of all the same',
  async (_name, technique, turned) => {
    const folder = mkdtempSync(join(tmpdir(), 'fw-virsh-'));
    const virsh = join(folder, 'virsh');
    writeFileSync(virsh, VIRSH(folder), { mode: 0o755 });
    writeFileSync(join(folder, 'events'), '');
    const config = agentConfigSchema.parse({
      ...{ host: 'h1', controller: 'ws://127.0.0.1:1', driver: 'libvirt', runDir: join(folder, 'run') },
      libvirt: { uri: 'test:///default', peerUri: 'test:///default', virsh },
    });
    const reports: DriverReport[] = [];
    const driver = createLibvirtDriver({ config, clock: systemClock(), log: silentLog });
    const events = () => reports.flatMap((r) => (r.type === 'event' && r.event !== 'stream' ? [r.event] : []));
    const until = async (what: () => boolean): Promise<void> => {
      while (!what()) await new Promise((resolve) => setTimeout(resolve, 10));
    };
    try {
      driver.setProgressPeriod(20);
      await driver.open((r) => reports.push(r));
      const started = driver.start({
        ...{ do: 'start', migration: 'm1', guest: 'vm1', technique, address: '127.0.0.1', port: 9 },
        ...{
          peer: 'test:///other',
          bandwidthBps: 1e9,
          downtimeLimitMs: 300,
          hybridPasses: 1,
          pauseBeforeSwitchover: true,
        },
      });
      await until(() => events().length > 0);
      expect(events()).toEqual(['preSwitchover']);
      appendFileSync(join(folder, 'done'), '');
      await started;
      await driver.continueSwitchover('m1');
      await until(() => events().includes('completed'));
      expect(events()).toEqual(['preSwitchover', ...turned, 'completed']);
    } finally {
      await driver.close({ stopGuests: false });
      rmSync(folder, { recursive: true, force: true });
    }
  },
  120_000,
);
