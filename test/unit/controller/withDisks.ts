/** Migrations of a guest with a disk through `controller/core`, for tests: agents that can do every storage mode, on a fabric in memory. */
import type { Abilities, AgentCommand, AgentHello, AgentMessage, CopyOptions } from '../../../contracts/agent.ts';
import { TECHNIQUES } from '../../../contracts/common.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { type Answer, type Fabric, type FabricOptions, guest, HV1, HV2, twoHypervisors } from './fabric.ts';

export const QEMU: Abilities = {
  hypervisor: 'QEMU 10.0.2',
  techniques: [...TECHNIQUES],
  autoConverge: true,
  xbzrle: true,
  multifd: [],
  multifdPostcopy: false,
  holdsSwitchover: 'stopped',
  storage: ['shared', 'mirrored', 'on-demand'],
};
export const ON_DEMAND: CopyOptions = { storage: 'on-demand', pullBps: 50e6 };
export const OFFER = { address: '10.0.0.1', port: 49_200 };
export const ID = 'm-1';

export type Answers = Partial<Record<AgentCommand['do'], () => Answer | undefined>>;
type Known = AgentHello['migrations'];

export const withDisk = (state: 'running' | 'stopped' = 'running') => {
  const g = guest();
  return {
    ...g,
    state,
    spec: { ...g.spec, disks: [{ path: '/d/g1.img', sizeBytes: 2 ** 30, format: 'raw' as const }] },
  };
};

export function up(
  f: Fabric,
  host: 'hv1' | 'hv2',
  guests = host === 'hv1' ? [withDisk()] : [],
  known: Known = [],
): void {
  const [dpid, ip] = host === 'hv1' ? [HV1, '10.0.0.1'] : [HV2, '10.0.0.2'];
  f.agentUp(host, dpid, ip, guests, known, { driver: 'qmp', techniques: [...TECHNIQUES], abilities: QEMU });
}
export const down = (f: Fabric, host: string) => f.send({ kind: 'agentDown', host });

export function asked(options: CopyOptions, answers: Answers = {}, o: FabricOptions = {}): Fabric {
  const f = twoHypervisors(o);
  up(f, 'hv1');
  up(f, 'hv2');
  f.answer = (_host, c) => {
    const own = answers[c.do];
    if (own) return own();
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 1e6 } };
    if (c.do === 'offerDisks') return { value: OFFER };
    const diskPort = options.storage === 'mirrored' ? { diskPort: 49_153 } : {};
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49_152, portName: 'tap1', ...diskPort } };
    return { value: {} };
  };
  f.pass(1000);
  f.pass(1000);
  ask(f, ID, 'hv2', options);
  return f;
}
export function ask(f: Fabric, id: string, destination: string, options: CopyOptions): void {
  const moves = [{ guest: 'g1', destination }];
  const request = { moves, priority: 'high' as const, technique: 'pre-copy' as const, options };
  f.send({ kind: 'migrate', request, ids: [id], group: null });
  f.pass(250);
}
export const job = (f: Fabric, id = ID) => {
  const j = f.state.jobs.get(id);
  if (!j) throw new Error(`no job ${id}`);
  return j;
};
export const say = (f: Fabric, host: string, event: Extract<AgentMessage, { type: 'event' }>['event']) =>
  f.send({ kind: 'agentMessage', host, message: { type: 'event', migration: ID, event } });
export const orders = (f: Fabric, ...which: AgentCommand['do'][]): string[] =>
  f.commands.filter((c) => which.includes(c.command.do)).map((c) => `${c.command.do} ${c.host}`);
export const released = (f: Fabric) => orders(f, 'releaseDisks');
export const drained = (f: Fabric) => {
  for (let i = 0; i < 200 && job(f).state !== 'done'; i++) f.pass(250);
  expect(job(f).state).toBe('done');
};
/** The guest has moved, and all of the migration is over but the disks. */
export function moved(options: CopyOptions = ON_DEMAND, answers: Answers = {}, o: FabricOptions = {}): Fabric {
  const f = asked(options, answers, o);
  for (const [host, event] of [
    ['hv1', 'preSwitchover'],
    ['hv2', 'resumed'],
    ['hv1', 'completed'],
  ] as const)
    say(f, host, event);
  drained(f);
  return f;
}
export const PULLING: Known = [{ migration: ID, guest: 'g1', role: 'destination' }];

/** Another controller with what the journal of this one tells. */
export function restarted(from: Fabric): Fabric {
  const entries = journalOf(from.state, from.nowMs).map((e) => JSON.parse(JSON.stringify(e)));
  const later = twoHypervisors();
  later.state = restoreJobs(later.state, entries);
  later.answer = from.answer;
  return later;
}
