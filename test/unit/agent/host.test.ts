/** What the agent reads from the kernel and says to programs: connections, load, tc filters, QEMU's command line, back-off. */
import fc from 'fast-check';
import { backoffMs } from '../../../agent/core/backoff.ts';
import {
  cpuShare,
  guestMapping,
  parseCpuTimes,
  parseMemory,
  parseProcNetTcp,
  roomForGuestsMiB,
} from '../../../agent/core/proc.ts';
import { qemuArgv } from '../../../agent/core/qemuArgv.ts';
import {
  addArgs,
  classOf,
  hasHtbRoot,
  parseClasses,
  parseFilters,
  type QueueFilter,
  sameFilters,
} from '../../../agent/core/queueFilters.ts';
import { findGuestMemory } from '../../../agent/io/hostLoad.ts';
import { tapName } from '../../../agent/io/hostNet.ts';
import { guestSpecSchema } from '../../../contracts/agent.ts';

describe('the kernel table of TCP connections', () => {
  test('gives addresses and ports, IPv4-mapped ones as IPv4', () => {
    const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:D560 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 12345 1
   1: 0000000000000000FFFF00000201A8C0:1F90 0000000000000000FFFF00000301A8C0:C001 01 0:0
   2: 00000000000000000000000001000000:0016 B80D01200000000000000000010000FF:0017 01 0:0
   3: nonsense
   4: 0100007F:D562 0100007F:C000 06 00000000:00000000 03:00000C41 00000000     0        0 0 3
`;
    expect(parseProcNetTcp(table)).toEqual([
      { localIp: '127.0.0.1', localPort: 54624, remoteIp: '127.0.0.1', remotePort: 49152 },
      { localIp: '192.168.1.2', localPort: 8080, remoteIp: '192.168.1.3', remotePort: 49153 },
      { localIp: '0:0:0:0:0:0:0:1', localPort: 22, remoteIp: '2001:db8:0:0:0:0:ff00:1', remotePort: 23 },
    ]);
  });
  test('any text is read without a fault', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(parseProcNetTcp(`head\n${text}`)).toBeInstanceOf(Array);
      }),
    );
  });
});

describe('load', () => {
  test('is the share of ticks not idle since the last look', () => {
    const before = parseCpuTimes('cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3\n');
    const now = parseCpuTimes('cpu  150 0 150 850 50 0 0 0 0 0\n');
    if (!before || !now) throw new Error('unread');
    expect(cpuShare(before, now)).toBeCloseTo(100 / 200);
    expect(cpuShare(now, now)).toBe(0);
    expect(parseCpuTimes('nothing')).toBeUndefined();
  });
  test('memory that could be given away is not used', () => {
    const text = 'MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\n';
    expect(parseMemory(text)).toEqual({ usedBytes: 600 * 1024, totalBytes: 1000 * 1024 });
    expect(parseMemory('MemTotal: 5 kB')).toBeUndefined();
  });
  test('guests get what a host has, less a sixteenth, 512 MiB or 8 GiB', () => {
    const GIB = 2 ** 30;
    expect([2, 32, 512].map((gib) => roomForGuestsMiB(gib * GIB))).toEqual([1536, 30 * 1024, 504 * 1024]);
    expect(roomForGuestsMiB(100 * 2 ** 20)).toBe(1);
  });
  test('a host without /proc says nothing of its memory', async () => {
    expect(await findGuestMemory('/nowhere/meminfo')).toBeUndefined();
    expect(await findGuestMemory()).toBeGreaterThan(0);
  });
});

describe('the mapping that is a guest’s memory', () => {
  const MIB = 2 ** 20;
  const others = `55d0a0000000-55d0a0900000 r-xp 00000000 fe:01 1234 /usr/bin/qemu-system-x86_64
7f0fe0000000-7f0fe4000000 ---p 00000000 00:00 0 
7f0ff0000000-7f0ff0021000 rw-p 00000000 00:00 0 [stack]
`;
  const memory = '7f100fe00000-7f101fe00000 rw-p 00000000 00:00 0 \n';

  test('is the smallest that holds it', () => {
    const found = { from: 0x7f100fe00000, to: 0x7f101fe00000 };
    const larger = '7f2000000000-7f2020000000 rw-s 00000000 00:01 99 /memfd:memory-backend-memfd (deleted)\n';
    expect(guestMapping(others + larger + memory, 256 * MIB)).toEqual(found);
    expect(guestMapping(memory + larger + others, 255 * MIB)).toEqual(found);
    expect(guestMapping(others + larger, 256 * MIB)).toEqual({ from: 0x7f2000000000, to: 0x7f2020000000 });
  });
  test('is not the code that an emulator makes, nor what cannot be read', () => {
    const code = '7f1028000000-7f1038000000 rwxp 00000000 00:00 0 \n7f1048000000-7f1058000000 ---p 00000000 00:00 0 \n';
    expect(guestMapping(code + others, 256 * MIB)).toBeUndefined();
    expect(guestMapping(code + memory + others, 256 * MIB)).toEqual({ from: 0x7f100fe00000, to: 0x7f101fe00000 });
  });
  test('is not known when the memory is put together of several', () => {
    expect(guestMapping(memory, 512 * MIB)).toBeUndefined();
    expect(guestMapping('', 256 * MIB)).toBeUndefined();
  });
});

describe('queue filters', () => {
  // Printed by iproute2 6.1 for two filters made with addArgs.
  const SHOWN = `filter protocol ip u32 chain 0 
filter protocol ip u32 chain 0 fh 800: ht divisor 1 
filter protocol ip u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 *flowid 1:2 not_in_hw 
  match 00280000/00fc0000 at 0
filter protocol ip u32 chain 0 fh 800::801 order 2049 key ht 800 bkt 0 *flowid 1:b not_in_hw 
  match 00300000/00fc0000 at 0
`;
  const OURS: QueueFilter[] = [
    { dscp: 10, queue: 1 },
    { dscp: 12, queue: 10 },
  ];
  test('are read back as they were made', () => {
    expect(parseFilters(SHOWN)).toEqual(OURS);
    expect(parseFilters('')).toEqual([]);
  });
  test('one that we would not have made is noticed', () => {
    expect(parseFilters(SHOWN.replace('00fc0000', '00ff0000'))).toBeUndefined();
    expect(parseFilters(SHOWN.replace(' at 0', ' at 16'))).toBeUndefined();
    expect(parseFilters(SHOWN.replace('flowid 1:2', 'flowid 2:2'))).toBeUndefined();
  });
  test('class ids are hexadecimal, one above the queue', () => {
    expect(classOf(1)).toBe('1:2');
    expect(classOf(10)).toBe('1:b');
    expect(addArgs('p0', { dscp: 10, queue: 15 }).slice(-7)).toEqual([
      'match',
      'ip',
      'tos',
      '0x28',
      '0xfc',
      'flowid',
      '1:10',
    ]);
  });
  test('the qdisc and its classes are recognised', () => {
    expect(hasHtbRoot('qdisc htb 1: root refcnt 3 r2q 10 default 0x1 direct_packets_stat 0 direct_qlen 1000\n')).toBe(
      true,
    );
    expect(hasHtbRoot('qdisc tbf 8001: root refcnt 2 rate 200Mbit burst 64Kb lat 30ms \n')).toBe(false);
    const classes = 'class htb 1:1 parent 1:fffe prio 0 rate 100Mbit\nclass htb 1:fffe root rate 200Mbit\n';
    expect([...parseClasses(classes)]).toEqual(['1:1', '1:fffe']);
  });
  test('order does not matter, anything else does', () => {
    expect(sameFilters(OURS, [...OURS].reverse())).toBe(true);
    expect(sameFilters(OURS, OURS.slice(1))).toBe(false);
    expect(sameFilters(OURS, [OURS[0] as QueueFilter, OURS[0] as QueueFilter])).toBe(false);
    expect(sameFilters(OURS, [OURS[0] as QueueFilter, { dscp: 12, queue: 3 }])).toBe(false);
  });
});

describe("QEMU's command line", () => {
  const spec = guestSpecSchema.parse({
    name: 'vm1',
    mac: '52:54:00:00:00:01',
    memoryMiB: 256,
    vcpus: 2,
    kernel: '/k',
    initrd: '/i',
    append: 'console=ttyS0',
  });
  const paths = { qmp: '/run/a,b/q', monitor: '/run/m', serial: '/run/s', pidFile: '/run/p' };
  const optionOf = (argv: string[], option: string) => argv[argv.indexOf(option) + 1];

  test('describes the guest', () => {
    const argv = qemuArgv(spec, paths, 'tap0', { incoming: false });
    expect(optionOf(argv, '-m')).toBe('256M');
    expect(optionOf(argv, '-smp')).toBe('2');
    expect(optionOf(argv, '-accel')).toBe('tcg');
    expect(optionOf(argv, '-append')).toBe('console=ttyS0');
    expect(optionOf(argv, '-netdev')).toBe('tap,id=net0,ifname=tap0,script=no,downscript=no,vhost=off');
    expect(optionOf(argv, '-device')).toContain('mac=52:54:00:00:00:01,csum=off,gso=off,guest_csum=off');
    expect(argv).not.toContain('-incoming');
  });
  test('doubles commas, which would end a value', () => {
    expect(optionOf(qemuArgv(spec, paths, null, { incoming: false }), '-qmp')).toBe(
      'unix:/run/a,,b/q,server=on,wait=off',
    );
  });
  test('a destination differs by nothing but its waiting', () => {
    const [here, there] = [
      qemuArgv(spec, paths, 'tap0', { incoming: false }),
      qemuArgv(spec, paths, 'tap0', { incoming: true }),
    ];
    expect(there).toEqual([...here, '-incoming', 'defer']);
  });
});

test('tap names fit an interface name, and tell hosts and guests apart', () => {
  const names = ['a', 'b'].flatMap((h) => ['vm1', 'vm2'].map((g) => tapName(h, g)));
  expect(new Set(names).size).toBe(4);
  for (const n of names) expect(n).toMatch(/^[a-z0-9]{4,15}$/);
});

test('waits between attempts grow to a cap and are never shorter than half of it', () => {
  fc.assert(
    fc.property(fc.nat(200), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (attempt, random) => {
      const ms = backoffMs(attempt, random);
      const full = Math.min(10_000, 250 * 2 ** attempt);
      expect(ms).toBeGreaterThanOrEqual(full / 2);
      expect(ms).toBeLessThanOrEqual(full);
    }),
  );
});
