/** How busy this host is, read from the kernel. The arithmetic is in `core/proc.ts`. */
import { readFile } from 'node:fs/promises';
import type { HostTelemetry } from '../../contracts/agent.ts';
import { type CpuTimes, cpuShare, parseCpuTimes, parseMemory, roomForGuestsMiB } from '../core/proc.ts';

/** A reader of the host's load; each call measures the processors since the last. Undefined where there is no /proc. */
export function createLoadReader(): () => Promise<HostTelemetry | undefined> {
  let last: CpuTimes | undefined;
  return async () => {
    const [stat, meminfo] = await Promise.all(
      ['/proc/stat', '/proc/meminfo'].map((path) => readFile(path, 'utf8').catch(() => '')),
    );
    const cpu = parseCpuTimes(stat ?? '');
    const memory = parseMemory(meminfo ?? '');
    if (cpu === undefined || memory === undefined) return undefined;
    const share = cpuShare(last ?? { busy: 0, total: 0 }, cpu);
    last = cpu;
    return { cpuShare: share, memoryUsedBytes: memory.usedBytes, memoryTotalBytes: memory.totalBytes };
  };
}

/** Memory that guests may have on this host, MiB, by what the kernel says of it; undefined where there is no /proc. */
export async function findGuestMemory(path = '/proc/meminfo'): Promise<number | undefined> {
  const memory = parseMemory(await readFile(path, 'utf8').catch(() => ''));
  return memory && roomForGuestsMiB(memory.totalBytes);
}
