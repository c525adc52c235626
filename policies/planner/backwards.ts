/**
 * Plans seen backwards in time. A migration takes memory at its destination from its start and frees its source at its end;
 * backwards it takes its source and frees its destination: the same problem with the ends exchanged. Laying out a plan
 * from its end, last ones first, puts everything as late as may be and so shows who really must be early (forward-backward
 * improvement, as in project scheduling). Only the order is taken from it: deadlines, and what is planned already, are left out.
 */
import { Board } from './board.ts';
import { type LaidOut, layOut } from './layOut.ts';
import type { Job, Model } from './model.ts';

export class Backwards {
  private readonly board: Board;
  /** By index of a job: as it is, and turned round. */
  private readonly forward = new Map<number, Job>();
  private readonly turned = new Map<number, Job>();

  constructor(model: Model, jobs: readonly Job[]) {
    const occupiedUnits = [...model.occupiedUnits];
    for (const j of jobs) {
      occupiedUnits[j.toHost] = (occupiedUnits[j.toHost] as number) + j.sizeUnits;
      occupiedUnits[j.fromHost] = (occupiedUnits[j.fromHost] as number) - j.sizeUnits;
      this.forward.set(j.index, j);
      const ends = { fromHost: j.toHost, toHost: j.fromHost };
      this.turned.set(j.index, { ...j, ...ends, deadlineMs: Number.POSITIVE_INFINITY, leastFinalBps: 0 });
    }
    this.board = new Board({ ...model, occupiedUnits });
    this.board.keep();
  }

  /** The order in which the migrations of a plan start when it is laid out from its end. What that takes is counted on `on`. */
  orderFrom(plan: LaidOut & { readonly fills: ReadonlySet<number> }, on: Board): Job[] {
    const before = this.board.work;
    const order = [...lastFirst(plan.placements), ...plan.stuck].map((j) => this.turned.get(j.index) as Job);
    const { placements, stuck } = layOut(this.board, order, plan.fills) as LaidOut;
    on.work += this.board.work - before;
    return [...lastFirst(placements), ...stuck].map((j) => this.forward.get(j.index) as Job);
  }
}

const lastFirst = (placements: LaidOut['placements']): Job[] =>
  [...placements].sort((a, b) => b.endMs - a.endMs || b.startMs - a.startMs).map((p) => p.job);
