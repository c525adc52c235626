/** What the tests of faults say to their child processes (`agents.ts`, `stream.ts`), and what these answer. */

export interface AgentOrder {
  order: 'hold' | 'release' | 'cap' | 'report';
  guest: string;
  /** The command to hold back or let through. */
  do?: 'prepare' | 'start' | 'continueSwitchover' | 'measureDirtyRate';
  /** cap: most the guest's copy gets, bit/s; absent: as much as it asks for. */
  bps?: number;
}

export interface AgentsReport {
  hosts: {
    host: string;
    guests: { name: string; state: string }[];
    migrations: { migration: string; role: 'source' | 'destination'; phase: string | null }[];
  }[];
}

/** What became of a stream of numbered packets, each echoed by the other end. */
export interface StreamReport {
  sent: number;
  /** Numbers whose echo came back. */
  received: number;
  duplicates: number;
  /** Numbers whose echo did not come, of those sent longer than half a second ago: how many, and the first few of those from the asked number on. */
  lost: number;
  lostSince: number[];
  /** The first few of those from the asked `since` on and before the asked `until` whose echo has not come, however young. */
  missing: number[];
  /** Longest time between two echoes, ms. */
  longestSilenceMs: number;
}
