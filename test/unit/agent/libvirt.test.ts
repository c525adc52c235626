/** libvirt's words: what virsh prints, in pieces and whole, becomes the same figures that QEMU gives. */
import {
  createEventReader,
  libvirtAbilities,
  libvirtReason,
  migrateArguments,
  parsePairs,
  readDefinition,
  statsToInfo,
  wholeMibPerS,
} from '../../../agent/core/libvirt.ts';
import { toProgress } from '../../../agent/core/progress.ts';
import { virshError } from '../../../agent/io/virsh.ts';
import type { AgentCommandOf } from '../../../contracts/agent.ts';

const RUNNING = `Job type: 2

operation: 5
time_elapsed: 1167
downtime: 300
memory_total: 101195776
memory_processed: 2103657
memory_remaining: 98115584
memory_bps: 10425891
memory_dirty_rate: 7
memory_iteration: 1
memory_page_size: 4096
auto_converge_throttle: 30
`;
const EVENTS = `2026-01-02 03:04:05.006+0000: event 'migration-iteration' for domain 'web 1': iteration: '2'
2026-01-02 03:04:06.006+0000: event 'lifecycle' for domain 'web1': Suspended Post-copy Error
2026-01-02 03:04:07.006+0000: event 'job-completed' for domain 'web1':
\toperation: 5
\ttime_elapsed: 9079
\tdowntime: 38
\tmemory_processed: 86000869
\tmemory_remaining: 0
\tmemory_total: 101195776
\tmemory_iteration: 5
2026-01-02 03:04:08.006+0000: event 'lifecycle' for domain 'web1': Stopped Migrated
`;

test('statistics of a running and of a finished copy become progress', () => {
  const info = statsToInfo(parsePairs(RUNNING), 'active');
  expect(toProgress(info ?? {})).toEqual({
    phase: 'pre-copy',
    elapsedMs: 1167,
    transferredBytes: 2103657,
    remainingBytes: 98115584,
    totalBytes: 101195776,
    passes: 1,
    rateBps: 83407128,
    dirtyBytesPerS: 7 * 4096,
    throttleShare: 0.3,
  });
  expect(parsePairs(RUNNING)['Job type']).toBe('2');
  expect(statsToInfo(parsePairs('Job type: 0\n'), 'active')).toBeUndefined();
  expect(statsToInfo({ memory_processed: '-1', time_elapsed: '5' }, 'active')).toEqual({
    status: 'active',
    'total-time': 5,
  });
});

test.each([1, 7, 1000])('events are read in pieces of %i letters', (size) => {
  const reader = createEventReader();
  const events = [];
  for (let at = 0; at < EVENTS.length; at += size) events.push(...reader.push(EVENTS.slice(at, at + size)));
  expect(events).toEqual([
    { event: 'migration-iteration', domain: 'web 1', iteration: 2 },
    { event: 'lifecycle', domain: 'web1', what: 'Suspended', why: 'Post-copy Error' },
    { event: 'lifecycle', domain: 'web1', what: 'Stopped', why: 'Migrated' },
  ]);
  const stats = reader.takeCompleted('web1');
  expect(statsToInfo(stats ?? {}, 'completed')).toMatchObject({
    downtime: 38,
    ram: { transferred: 86000869, 'dirty-sync-count': 5 },
  });
  expect(reader.takeCompleted('web1')).toBeUndefined();
});

test('a definition is read, with and without a network card', () => {
  const xml =
    ' type="kvm"\n<memory unit="KiB">98304</memory>\n<vcpu placement="static">2</vcpu>\n machine="pc-i440fx-10.0"\n';
  expect(readDefinition(xml, ' vnet3   bridge   br0   virtio   52:54:00:00:00:01\n')).toEqual({
    ...{
      mac: '52:54:00:00:00:01',
      memoryMiB: 96,
      vcpus: 2,
      machine: 'pc-i440fx-10.0',
      accel: 'kvm',
      portName: 'vnet3',
    },
  });
  expect(readDefinition(xml, ' -   user   -   virtio   52:54:00:00:00:01')).toMatchObject({ portName: '' });
  expect(readDefinition('', '')).toMatchObject({ mac: undefined, memoryMiB: Number.NaN });
});

describe('a migration', () => {
  const command: AgentCommandOf<'start'> = {
    ...{ do: 'start', migration: 'm1', guest: 'web1', technique: 'pre-copy', address: '192.0.2.2', port: 49152 },
    ...{ bandwidthBps: 100e6, downtimeLimitMs: 300, hybridPasses: 2, pauseBeforeSwitchover: false },
  };
  const options = { mode: 'p2p', persistent: false, switchoverBandwidth: true, held: false, tls: false } as const;
  const words = (over: Partial<typeof command>, o: Partial<Parameters<typeof migrateArguments>[2]> = {}) =>
    migrateArguments({ ...command, ...over }, 'qemu+tls://h2/system', { ...options, ...o }).join(' ');

  test('is what an operator would type', () => {
    expect(words({})).toBe(
      'migrate --domain web1 --desturi qemu+tls://h2/system --migrateuri tcp://192.0.2.2:49152 --listen-address 192.0.2.2 ' +
        '--live --p2p --bandwidth 11 --available-switchover-bandwidth 11',
    );
    expect(words({ address: '2001:db8::2' })).toContain(
      '--migrateuri tcp://[2001:db8::2]:49152 --listen-address 2001:db8::2',
    );
    expect(words({ technique: 'stop-and-copy' })).not.toContain('--live');
    expect(words({}, { persistent: true, mode: 'direct' })).toContain('--live --persistent --undefinesource');
    expect(words({ technique: 'hybrid' })).toContain('--postcopy --postcopy-bandwidth 11');
    expect(words({ mayTurnPostcopy: true })).toContain('--postcopy ');
    expect(words({ switchoverBps: 1e9 })).toContain('--available-switchover-bandwidth 119');
    expect(words({ switchoverBps: 1e9 }, { held: true })).toContain('--available-switchover-bandwidth 1');
    expect(words({}, { switchoverBandwidth: false })).not.toContain('switchover');
  });

  test('has its options', () => {
    expect(words({ options: { autoConverge: true, xbzrle: true, xbzrleCacheMiB: 2 } })).toContain(
      '--auto-converge --compressed --comp-methods xbzrle --comp-xbzrle-cache 2097152',
    );
    expect(words({ options: { multifd: { channels: 3, compression: 'zstd' } } })).toContain(
      '--compressed --comp-methods zstd --parallel --parallel-connections 3',
    );
    expect(words({ options: { multifd: { channels: 3, compression: 'none' } } })).not.toContain('--compressed');
  });

  test('takes disks along, each at its share of the pace, and goes over TLS', () => {
    const mirrored = { disks: 2, xml: '/run/m1.xml', persistentXml: '/run/m1.persistent.xml' };
    expect(words({ diskPort: 49153 }, { mirrored })).toContain(
      '--bandwidth 5 --available-switchover-bandwidth 11 --copy-storage-all --disks-port 49153 --xml /run/m1.xml ' +
        '--persistent-xml /run/m1.persistent.xml',
    );
    expect(words({ diskPort: 49153 }, { mirrored: { disks: 1, xml: '/run/m1.xml' } })).not.toContain('persistent-xml');
    expect(words({}, { tls: true })).toMatch(/ --tls$/);
  });

  test('keeps to its pace: whole MiB/s, never more, never 0', () => {
    expect([8 * 1024 * 1024 * 3.9, 1, 0].map(wholeMibPerS)).toEqual([3, 1, 1]);
  });
});

test('what a libvirt can do is told by its versions and by its options', () => {
  const version = 'Using library: libvirt 11.3.0\nRunning hypervisor: QEMU 10.0.2\nRunning against daemon: 11.3.0\n';
  const help =
    '--postcopy --auto-converge --comp-xbzrle-cache --parallel --comp-zlib-level --comp-zstd-level --copy-storage-all --disks-port';
  expect(libvirtAbilities(version, help, true)).toEqual({
    hypervisor: 'libvirt 11.3.0, QEMU 10.0.2',
    techniques: ['pre-copy', 'post-copy', 'hybrid', 'stop-and-copy'],
    autoConverge: true,
    xbzrle: true,
    multifd: ['none', 'zlib', 'zstd'],
    multifdPostcopy: false,
    holdsSwitchover: 'held',
    storage: ['shared', 'mirrored'],
    storageRefusals: { 'on-demand': expect.stringMatching(/ends the machine at the source.*mirror or share them/) },
  });
  expect(libvirtAbilities(version, help, false)).toMatchObject({
    storage: ['shared'],
    storageRefusals: { mirrored: expect.stringMatching(/set libvirt.monitorCommands/) },
  });
  expect(libvirtAbilities(version, '--auto-converge', true)).toMatchObject({
    techniques: ['pre-copy', 'stop-and-copy'],
    multifd: [],
    storage: ['shared'],
    storageRefusals: { mirrored: expect.stringMatching(/--copy-storage-all/) },
  });
});

test('what libvirt says of credentials comes with what to do about them', () => {
  expect(libvirtReason('Unable to read TLS confirmation')).toMatch(/^Unable to .*; .* migrate_tls_x509_cert_dir/);
  expect(libvirtReason('operation aborted')).toBe('operation aborted');
});

test.each([
  ['', 'ENOENT', 'libvirt-missing', /apt-get install/],
  [
    "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/run/x': No such file or directory",
    1,
    'libvirt-unreachable',
    /is libvirtd/,
  ],
  ["error: Failed to connect socket to '/run/x': Permission denied", 1, 'libvirt-permission', /group libvirt/],
  ['error: authentication unavailable: no polkit agent available', 1, 'libvirt-permission', /as root/],
  ["error: failed to get domain 'web1'", 1, 'guest-unknown', /web1/],
  ['error: operation failed: something else', 1, 'libvirt-refused', /^operation failed: something else$/],
])('%s: %s', (said, code, expected, text) => {
  const error = virshError('qemu:///system', 'virsh', { code, message: 'it failed' }, said);
  expect(error.code).toBe(expected);
  expect(error.message).toMatch(text);
});
