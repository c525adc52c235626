/**
 * QEMU's account of a migration (`query-migrate`) and its translation to CopyProgress. Pure; `core/source.ts` uses it for
 * every poll. Field names are those of QEMU's QAPI schema (MigrationInfo, MigrationStats).
 */
import type { CopyProgress } from '../../contracts/agent.ts';

/** Memory figures of a migration. */
export interface MigrateRam {
  transferred: number;
  remaining: number;
  total: number;
  mbps?: number;
  'dirty-pages-rate'?: number;
  'page-size'?: number;
  'dirty-sync-count'?: number;
  'postcopy-bytes'?: number;
}

/** The part of `query-migrate`'s answer that is used here. */
export interface MigrateInfo {
  status?: string;
  'total-time'?: number;
  downtime?: number;
  'error-desc'?: string;
  'cpu-throttle-percentage'?: number;
  ram?: MigrateRam;
}

/** Reads `query-migrate`'s answer. What is missing, unknown or of another type is left out: versions of QEMU differ. */
export function parseMigrateInfo(answer: unknown): MigrateInfo {
  const from = record(answer);
  const ram = record(from.ram);
  const info: MigrateInfo = {
    ...pick(from, ['total-time', 'downtime', 'cpu-throttle-percentage'] as const),
    ...(typeof from.status === 'string' ? { status: from.status } : {}),
    ...(typeof from['error-desc'] === 'string' ? { 'error-desc': from['error-desc'] } : {}),
  };
  const { transferred, remaining, total } = pick(ram, ['transferred', 'remaining', 'total'] as const);
  if (transferred === undefined || remaining === undefined || total === undefined) return info;
  const more = ['mbps', 'dirty-pages-rate', 'page-size', 'dirty-sync-count', 'postcopy-bytes'] as const;
  return { ...info, ram: { transferred, remaining, total, ...pick(ram, more) } };
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** The named fields that are numbers from 0 up. */
function pick<K extends string>(from: Record<string, unknown>, names: readonly K[]): Partial<Record<K, number>> {
  const found: Partial<Record<K, number>> = {};
  for (const name of names) {
    const value = from[name];
    if (typeof value === 'number' && Number.isFinite(value) && value >= 0) found[name] = value;
  }
  return found;
}

/** QEMU's migration status → phase of the copy; undefined where there is no copy (`none`). */
export function copyPhase(status: string | undefined): CopyProgress['phase'] | undefined {
  switch (status) {
    case undefined:
    case 'none':
      return undefined;
    case 'setup':
    case 'wait-unplug':
      return 'setup';
    case 'active':
    case 'cancelling':
      return 'pre-copy';
    case 'pre-switchover':
    case 'device':
      return 'switchover';
    case 'postcopy-active':
    case 'postcopy-device':
    // A broken stream that waits to be taken up again: the guest is at the destination, and pages are still to come.
    case 'postcopy-paused':
    case 'postcopy-recover-setup':
    case 'postcopy-recover':
      return 'post-copy';
    case 'completed':
    case 'colo':
      return 'completed';
    case 'cancelled':
      return 'cancelled';
    default:
      return 'failed';
  }
}

/** Progress from an answer to `query-migrate`. Without memory figures those of `last` stay. */
export function toProgress(info: MigrateInfo, last?: CopyProgress): CopyProgress | undefined {
  const phase = copyPhase(info.status);
  if (phase === undefined) return last;
  const ram = info.ram;
  const downtimeMs = info.downtime ?? last?.downtimeMs;
  const throttled = info['cpu-throttle-percentage'];
  const throttleShare = throttled === undefined ? last?.throttleShare : throttled / 100;
  return {
    phase,
    elapsedMs: info['total-time'] ?? last?.elapsedMs ?? 0,
    transferredBytes: ram?.transferred ?? last?.transferredBytes ?? 0,
    remainingBytes: ram?.remaining ?? last?.remainingBytes ?? 0,
    totalBytes: ram?.total ?? last?.totalBytes ?? 0,
    passes: ram?.['dirty-sync-count'] ?? last?.passes ?? 0,
    rateBps: ram === undefined ? (last?.rateBps ?? 0) : Math.round((ram.mbps ?? 0) * 1e6),
    dirtyBytesPerS:
      ram === undefined ? (last?.dirtyBytesPerS ?? 0) : (ram['dirty-pages-rate'] ?? 0) * (ram['page-size'] ?? 4096),
    ...(downtimeMs === undefined ? {} : { downtimeMs }),
    ...(throttleShare === undefined ? {} : { throttleShare }),
  };
}

/** True when nothing but the elapsed time differs: such progress is not worth a message. */
export function sameProgress(a: CopyProgress | undefined, b: CopyProgress): boolean {
  return (
    a !== undefined &&
    a.phase === b.phase &&
    a.transferredBytes === b.transferredBytes &&
    a.remainingBytes === b.remainingBytes &&
    a.passes === b.passes &&
    a.rateBps === b.rateBps &&
    a.dirtyBytesPerS === b.dirtyBytesPerS &&
    a.downtimeMs === b.downtimeMs &&
    a.throttleShare === b.throttleShare
  );
}
