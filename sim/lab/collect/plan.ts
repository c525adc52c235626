/**
 * Which migrations `fairway lab collect` makes: pure, and the same for the same seed, so that a collection that was broken off
 * goes on where it ended. Row n depends on seed and n only. Neighbours: `record.ts` writes rows down, `collect.ts` makes them.
 *
 * Rows come in blocks that share one guest, for memory can only be chosen when a guest is started. Each block has every copy
 * method twice, in an order of its own. Bandwidths are chosen so that memory can be sent once in about two to six seconds.
 */
import { COPY_METHODS, type CopyMethod } from '../../../agent/core/techniques.ts';
import { randomFrom } from '../../../contracts/random.ts';
import type { Writes } from '../guests.ts';

/** A migration to be made. */
export interface PlannedRow {
  row: number;
  /** Rows of one block are made with one guest. */
  block: number;
  method: CopyMethod;
  memoryMiB: number;
  /** Memory that holds random data from the start on, MiB; the working set lies in it. */
  filledMiB: number;
  dirtyPagesPerS: number;
  workingSetMiB: number;
  writes: Writes;
  /** Rate of the cables between hypervisors and core, Mbit/s. */
  wireMbps: number;
}

const METHODS_PER_BLOCK = 2;
export const ROWS_PER_BLOCK = COPY_METHODS.length * METHODS_PER_BLOCK;

/** Guests, and the cables they are moved over. */
const GUESTS = [
  { memoryMiB: 128, filledMiB: 48, wireMbps: [150, 200, 300, 400] },
  { memoryMiB: 192, filledMiB: 112, wireMbps: [250, 300, 400, 500] },
  { memoryMiB: 256, filledMiB: 168, wireMbps: [400, 500, 600] },
] as const;
const DIRTY_PAGES_PER_S = [0, 250, 500, 1000, 2000, 3000, 4000, 6000, 8000, 12_000] as const;
const WORKING_SETS_MIB = [4, 8, 16, 24, 32, 48, 64, 96, 128] as const;
const WRITES: readonly Writes[] = ['random', 'records'];

/** A page of an XBZRLE cache that is smaller than the working set is thrown out before it is wanted. */
const XBZRLE_CACHE_MIB = 128;

function pick<T>(random: () => number, from: readonly T[]): T {
  return from[Math.floor(random() * from.length)] as T;
}

function shuffled<T>(random: () => number, list: readonly T[]): T[] {
  const rest = [...list];
  const out: T[] = [];
  while (rest.length > 0) out.push(...rest.splice(Math.floor(random() * rest.length), 1));
  return out;
}

/** The method as it is measured: XBZRLE with a cache that holds every working set of the plan. */
const asMeasured = (m: CopyMethod): CopyMethod =>
  m.options.xbzrle === true ? { ...m, options: { ...m.options, xbzrleCacheMiB: XBZRLE_CACHE_MIB } } : m;

/** Every copy method as it is measured. */
export const MEASURED_METHODS: readonly CopyMethod[] = COPY_METHODS.map(asMeasured);

/** The first `rows` rows of the plan with that seed. */
export function planRows(seed: number, rows: number): PlannedRow[] {
  const methods = Array.from({ length: METHODS_PER_BLOCK }, () => MEASURED_METHODS).flat();
  const plan: PlannedRow[] = [];
  for (let block = 0; plan.length < rows; block++) {
    const random = randomFrom(seed * 1_000_003 + block);
    // Every three blocks go through all guests, whatever the chance.
    const guest = GUESTS[(block + seed) % GUESTS.length] as (typeof GUESTS)[number];
    for (const method of shuffled(random, methods)) {
      plan.push({
        row: plan.length,
        block,
        method,
        memoryMiB: guest.memoryMiB,
        filledMiB: guest.filledMiB,
        dirtyPagesPerS: pick(random, DIRTY_PAGES_PER_S),
        workingSetMiB: pick(
          random,
          WORKING_SETS_MIB.filter((mib) => mib <= guest.filledMiB),
        ),
        writes: pick(random, WRITES),
        wireMbps: pick<number>(random, guest.wireMbps),
      });
    }
  }
  return plan.slice(0, rows);
}
