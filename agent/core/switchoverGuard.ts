/**
 * A guest that stands still before its switch-over waits for the controller, which first has the network confirm the way to
 * its new place. A controller that died or cannot be reached must not keep it standing: after a while the agent lets the
 * copy go on by itself. `io/agent.ts` feeds it what the driver reports and what the controller orders.
 */
import type { Clock } from '../../contracts/clock.ts';
import type { DriverReport } from './driver.ts';

export interface SwitchoverGuardOptions {
  clock: Clock;
  /** Longest wait for the controller, ms. */
  waitMs: number;
  /** Lets the copy go on. */
  goOn(migration: string): void;
}

export interface SwitchoverGuard {
  /** What the driver reports, in order; also what it reported to an earlier agent. */
  heard(report: DriverReport): void;
  /** The controller has decided about this migration. */
  decided(migration: string): void;
  close(): void;
}

export function createSwitchoverGuard({ clock, waitMs, goOn }: SwitchoverGuardOptions): SwitchoverGuard {
  const waiting = new Map<string, () => void>();
  const decided = (migration: string): void => {
    waiting.get(migration)?.();
    waiting.delete(migration);
  };
  return {
    heard(report) {
      if (report.type !== 'event' || report.event === 'stream') return;
      decided(report.migration);
      if (report.event !== 'preSwitchover') return;
      const cancel = clock.after(waitMs, () => {
        waiting.delete(report.migration);
        goOn(report.migration);
      });
      waiting.set(report.migration, cancel);
    },
    decided,
    close() {
      for (const cancel of waiting.values()) cancel();
      waiting.clear();
    },
  };
}
