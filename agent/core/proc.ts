/** Reading the kernel's texts: TCP connections, processor and memory use. Pure; the io room reads the files. */

export interface TcpConnection {
  localIp: string;
  localPort: number;
  remoteIp: string;
  remotePort: number;
}

function endpoint(text: string): { ip: string; port: number } | undefined {
  const m = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/i.exec(text);
  if (!m) return undefined;
  const [, hex = '', port = ''] = m;
  // The kernel prints each 32-bit word in host order (little-endian on the machines we run on).
  const words = hex.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((w) => (w.match(/../g) ?? []).map((b) => Number.parseInt(b, 16)).reverse());
  const v4 = bytes.length === 4 ? bytes : mappedV4(bytes);
  const ip = v4 === undefined ? v6Text(bytes) : v4.join('.');
  return { ip, port: Number.parseInt(port, 16) };
}

function mappedV4(bytes: number[]): number[] | undefined {
  const prefix = bytes.slice(0, 10).every((b) => b === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return prefix ? bytes.slice(12) : undefined;
}

function v6Text(bytes: number[]): string {
  const groups: string[] = [];
  for (let i = 0; i < bytes.length; i += 2) groups.push((((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)).toString(16));
  return groups.join(':');
}

/** `TCP_ESTABLISHED` (include/net/tcp_states.h). */
const ESTABLISHED = '01';

/**
 * Connections in `/proc/<pid>/net/tcp` or `tcp6` (IPv4-mapped addresses as IPv4). Only those that are open: what is left of an
 * earlier copy to the same port waits there for a minute. Lines that make no sense are left out.
 */
export function parseProcNetTcp(text: string): TcpConnection[] {
  const found: TcpConnection[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [, local = '', remote = '', state] = line.trim().split(/\s+/);
    if (state !== ESTABLISHED) continue;
    const l = endpoint(local);
    const r = endpoint(remote);
    if (l && r) found.push({ localIp: l.ip, localPort: l.port, remoteIp: r.ip, remotePort: r.port });
  }
  return found;
}

/** Addresses [from, to) of a mapping. */
export interface Mapping {
  from: number;
  to: number;
}

/**
 * Where a guest's memory of `memoryBytes` lies in its hypervisor's process, from `/proc/<pid>/maps` (proc_pid_maps(5)): the smallest
 * mapping that can be read and holds as much. Code made by an emulator, which may be as large, is executable and is not it. Undefined
 * when no mapping is large enough, as where memory is put together of several.
 */
export function guestMapping(maps: string, memoryBytes: number): Mapping | undefined {
  let best: Mapping | undefined;
  for (const [, start = '', end = ''] of maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) r.-. /gm)) {
    const [from, to] = [Number.parseInt(start, 16), Number.parseInt(end, 16)];
    if (to - from >= memoryBytes && to - from < (best === undefined ? Number.POSITIVE_INFINITY : best.to - best.from))
      best = { from, to };
  }
  return best;
}

export interface CpuTimes {
  busy: number;
  total: number;
}

/** The first line of `/proc/stat`: ticks since boot. */
export function parseCpuTimes(stat: string): CpuTimes | undefined {
  const m = /^cpu\s+(.*)$/m.exec(stat);
  if (!m) return undefined;
  // user nice system idle iowait irq softirq steal (guest times are already in user)
  const ticks = (m[1] ?? '').trim().split(/\s+/).slice(0, 8).map(Number);
  const total = ticks.reduce((sum, t) => sum + t, 0);
  return { busy: total - (ticks[3] ?? 0) - (ticks[4] ?? 0), total };
}

/** Share of the processors in use between two readings, 0 to 1. */
export function cpuShare(before: CpuTimes, now: CpuTimes): number {
  const total = now.total - before.total;
  return total <= 0 ? 0 : Math.min(1, Math.max(0, (now.busy - before.busy) / total));
}

/** `/proc/meminfo`: bytes used (what could not be given to a new program) and bytes in all. */
export function parseMemory(meminfo: string): { usedBytes: number; totalBytes: number } | undefined {
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(meminfo)?.[1] ?? Number.NaN);
  const total = kib('MemTotal');
  const available = kib('MemAvailable');
  if (Number.isNaN(total) || Number.isNaN(available)) return undefined;
  return { usedBytes: Math.max(0, total - available) * 1024, totalBytes: total * 1024 };
}

const MIB = 2 ** 20;
/** Of a host's memory this share is its own: kernel, hypervisor, page tables of the guests; in MiB within these bounds. */
const RESERVE = { share: 1 / 16, leastMiB: 512, mostMiB: 8192 } as const;

/** Memory that guests may have on a host with so much, MiB. */
export function roomForGuestsMiB(totalBytes: number): number {
  const totalMiB = Math.floor(totalBytes / MIB);
  const reserveMiB = Math.min(RESERVE.mostMiB, Math.max(RESERVE.leastMiB, Math.ceil(totalMiB * RESERVE.share)));
  return Math.max(1, totalMiB - reserveMiB);
}
