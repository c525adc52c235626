/**
 * What may happen in a world (`world.ts`), each with how often it does: events are delivered, agents work, time passes,
 * somebody asks for migrations, and all sorts of faults. Each takes two numbers that say where and how. Pure but for the world.
 */
import type { CopyOptions, MultifdCompression, StorageMode } from '../../../contracts/agent.ts';
import { isFinal, PRIORITIES, type Strategy, TECHNIQUES } from '../../../contracts/common.ts';
import { randomFrom } from '../../../contracts/random.ts';
import type { MigrateRequest } from '../../../contracts/rest.ts';
import { movesOf, planEvacuation } from '../../../controller/core/evacuate.ts';
import { checkCancel, checkRequest } from '../../../controller/core/jobs.ts';
import { checkForget } from '../../../controller/core/lost.ts';
import { checkPull } from '../../../controller/core/pull.ts';
import { arpPacket, buildFrame, rarpPacket } from '../../../sim/packet.ts';
import type { Host } from './hosts.ts';
import { LOCAL_PORT, type SwitchModel, type WriteFate } from './network.ts';
import { OVERRIDES_COUNT, POLICIES } from './policies.ts';
import { BURST, isAllowed, SPEEDS, type World } from './world.ts';

const REFUSALS = ['host-busy', 'guest-gone', 'internal', 'path-down'];
const FATES: readonly WriteFate[] = ['refused', 'full', 'lost'];
const PULL_BPS = [4e6, 8e6, 80e6];
/** What somebody may hear a second time; what a connection keeps in order cannot be. */
const REPEATED = ['agentMessage', 'commandDone', 'qosDone', 'tunnelDone', 'written', 'counters', 'packetIn'];

interface Kind {
  /** How often it happens beside the others. */
  weight: number;
  /** Part of every life; all else may be left out of a case. */
  isLife?: true;
  do(w: World, a: number, b: number): void;
}

const nth = <T>(list: Iterable<T>, n: number): T | undefined => {
  const all = [...list];
  return all[n % Math.max(1, all.length)];
};
const switchOf = (w: World, n: number) => nth(w.net.switches.values(), n) as SwitchModel;
const hostOf = (w: World, n: number) => nth(w.hosts.values(), n) as Host;
const portOf = (w: World, n: number) => nth(w.net.cables.keys(), n) as string;
const openJob = (w: World, n: number) =>
  nth(
    [...w.state.jobs.values()].filter((j) => !isFinal(j.state)),
    n,
  );

export const ACTIONS = {
  deliver: { weight: 480, isLife: true, do: (w, a, b) => w.deliver(a, b % 4 === 0 ? 1 + (a % BURST) : 1) },
  work: {
    weight: 160,
    isLife: true,
    do: (w, a) => {
      const busy = nth(
        [...w.hosts.values()].filter((x) => x.inbox.length > 0),
        a,
      );
      if (busy) busy.work();
      else w.deliver(a);
    },
  },
  tick: {
    weight: 140,
    isLife: true,
    do: (w, _a, b) => {
      w.pass(1 + (b % 1500));
      w.feed([{ kind: 'tick' }]);
    },
  },
  sample: {
    weight: 60,
    isLife: true,
    do: (w, _a, b) => {
      w.net.setWorkload(randomFrom(b), 1);
      for (const x of w.net.switches.values()) w.net.read(x);
      if (b % 3 > 0) w.feed([{ kind: 'sampled' }]);
    },
  },
  ask: { weight: 50, isLife: true, do: ask },
  cancel: {
    weight: 6,
    do: (w, a) => {
      const id = openJob(w, a)?.id;
      if (id !== undefined && isAllowed(() => checkCancel(w.state, id))) w.feed([{ kind: 'cancel', id }]);
    },
  },
  forget: {
    weight: 4,
    do: (w, a) => {
      const id = openJob(w, a)?.id;
      if (id !== undefined && isAllowed(() => checkForget(w.state, id))) w.feed([{ kind: 'forget', id }]);
    },
  },
  evacuate: {
    weight: 3,
    do: (w, a, b) => {
      const request = { host: hostOf(w, a).o.host, priorities: {}, deadlines: {}, exclude: [], dryRun: false };
      const deadline = b % 3 === 0 ? { deadlineMs: 5000 + (b % 60_000) } : {};
      let moves: MigrateRequest | undefined;
      const isPlanned = isAllowed(() => {
        moves = movesOf(planEvacuation(w.state, { ...request, ...deadline }, w.nowMs));
      });
      if (isPlanned && moves && moves.moves.length > 0) migrate(w, { ...moves, ...optionsOf(w, a, b) });
    },
  },
  pull: {
    weight: 4,
    do: (w, a, b) => {
      const id = nth(w.state.jobs.keys(), a);
      const rateBps = b % 4 === 0 ? null : (PULL_BPS[b % PULL_BPS.length] as number);
      if (id !== undefined && isAllowed(() => checkPull(w.state, id, rateBps))) w.feed([{ kind: 'pull', id, rateBps }]);
    },
  },
  switch: {
    weight: 10,
    do: (w, a, b) => {
      const s = switchOf(w, a);
      if (s.isConnected) w.net.disconnect(s);
      else w.net.connect(s, b % 4 === 0);
    },
  },
  silence: {
    weight: 6,
    do: (w, a) => {
      const s = switchOf(w, a);
      s.isSilent = !s.isSilent;
    },
  },
  cable: {
    weight: 10,
    do: (w, a) => {
      const end = portOf(w, a);
      w.net.setCable(end, w.net.at(end)?.port.isUp === false);
    },
  },
  deafen: {
    weight: 4,
    do: (w, a) => {
      const end = portOf(w, a);
      if (!w.net.deaf.delete(end)) w.net.deaf.add(end);
    },
  },
  speed: {
    weight: 6,
    do: (w, a, b) => {
      const at = w.net.at(portOf(w, a));
      if (!at) return;
      at.port.speedBps = SPEEDS[b % SPEEDS.length] as number;
      w.net.tellPort(at.s, at.portNo, 'modified');
    },
  },
  agent: {
    weight: 14,
    do: (w, a, b) => {
      const draw = randomFrom(b);
      const h = hostOf(w, a);
      if (h.isConnected) h.disconnect(() => draw() < 0.5);
      else h.connect();
    },
  },
  vanish: {
    weight: 2,
    do: (w, a, b) => {
      const draw = randomFrom(b);
      hostOf(w, a).vanish(() => draw() < 0.5);
    },
  },
  breakStream: {
    weight: 8,
    do: (w, a) => {
      const c = nth(
        [...w.hosts.values()].flatMap((x) => x.copies().map((id) => ({ x, id }))),
        a,
      );
      c?.x.break(c.id);
    },
  },
  fate: {
    weight: 6,
    do: (w, a, b) => {
      switchOf(w, a).fate = FATES[b % FATES.length] as WriteFate;
    },
  },
  failQueues: {
    weight: 4,
    do: (w) => {
      w.queuesFail = !w.queuesFail;
    },
  },
  failTunnels: {
    weight: 3,
    do: (w, _a, b) => {
      w.tunnelsFail = !w.tunnelsFail;
      // It may be noticed before anything is asked of it, or not.
      if (b % 2 === 0) w.tellDatabases();
    },
  },
  removeTunnel: {
    weight: 3,
    do: (w, a) => {
      const ports = [...w.net.switches.values()].flatMap((s) =>
        [...s.ports.values()].filter((p) => p.name.startsWith('fwt')).map((p) => ({ s, p })),
      );
      const one = nth(ports, a);
      if (one) w.net.setTunnel(one.s.dpid, one.p.name, false);
    },
  },
  policy: { weight: 7, do: (w, _a, b) => w.setPolicy(b % POLICIES.length) },
  overrides: { weight: 6, do: (w, _a, b) => w.setPolicy(0, b % OVERRIDES_COUNT) },
  refusePolicy: { weight: 1, do: (w) => w.refusePolicy() },
  again: {
    weight: 10,
    do: (w, a) => {
      const old = w.recent[a % w.recent.length];
      if (!old || !REPEATED.includes(old.kind)) return;
      if (old.kind === 'agentMessage' && old.message.type === 'guests') return;
      w.feed([old]);
    },
  },
  refuse: {
    weight: 4,
    do: (w, a, b) => {
      hostOf(w, a).refuseNext = REFUSALS[b % REFUSALS.length] as string;
    },
  },
  timeOut: { weight: 4, do: (w, a, b) => hostOf(w, a).timeOut(b % 2 === 0) },
  frame: { weight: 5, do: frame },
  restart: { weight: 2, do: (w) => w.restart() },
} as const satisfies Record<string, Kind>;

export type ActionName = keyof typeof ACTIONS;
/** One thing that happens, and two numbers from 0 to 65535 that say where and how. */
export type Action = readonly [ActionName, number, number];
export const ACTION_NAMES = Object.keys(ACTIONS) as ActionName[];

export const perform = (w: World, [name, a, b]: Action): void => (ACTIONS[name] as Kind).do(w, a, b);

/** Somebody asks for the move of one guest or of several. */
function ask(w: World, a: number, b: number): void {
  const draw = randomFrom(a * 65_536 + b);
  const of = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)] as T;
  const share = draw() < 0.6 ? 0.3 : 1;
  const idle = w.guests.filter((g) => ![...w.state.jobs.values()].some((j) => j.guest === g && !isFinal(j.state)));
  const names = idle.filter(() => draw() < share);
  if (names.length === 0) return;
  const at = (name: string) => [...w.hosts.values()].find((h) => h.guests.get(name)?.state === 'running')?.o.host;
  const to = of([...w.hosts.keys()]);
  const request: MigrateRequest = {
    moves: names
      .map((guest) => ({
        guest,
        destination: draw() < 0.7 ? to : of([...w.hosts.keys()]),
        ...(draw() < 0.5 ? { priority: of(PRIORITIES) } : {}),
      }))
      .filter((m) => at(m.guest) !== m.destination),
    priority: of(PRIORITIES),
    ...(draw() < 0.1 ? { technique: of(TECHNIQUES) } : {}),
    ...(draw() < 0.1 ? { strategy: of<Strategy>(['serial', 'parallel']) } : {}),
    ...(draw() < 0.2 ? { deadlineMs: 5000 + Math.floor(draw() * 60_000) } : {}),
    ...(draw() < 0.3 ? { planned: true } : {}),
  };
  migrate(w, { ...request, ...optionsOf(w, a, b) });
}

function migrate(w: World, request: MigrateRequest): void {
  if (request.moves.length > 0 && isAllowed(() => checkRequest(w.state, request))) w.migrate(request);
}

/** How pages and disks are to be copied. */
function optionsOf(w: World, a: number, b: number): { options?: CopyOptions } {
  const draw = randomFrom(b * 65_536 + a);
  const of = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)] as T;
  // Who says nothing of disks is refused by the agent.
  const storage = w.shape.hasDisks && draw() < 0.95 ? of<StorageMode>(['shared', 'mirrored', 'on-demand']) : undefined;
  const options: CopyOptions = {
    ...(draw() < 0.1 ? { autoConverge: true } : {}),
    ...(draw() < 0.1 ? { xbzrle: true } : {}),
    ...(draw() < 0.1
      ? { multifd: { channels: 2, compression: of<MultifdCompression>(['none', 'zlib', 'zstd']) } }
      : {}),
    ...(storage === undefined ? {} : { storage }),
    ...(storage === 'on-demand' && draw() < 0.6 ? { pullBps: of(PULL_BPS) } : {}),
  };
  return Object.keys(options).length > 0 ? { options } : {};
}

/** A frame of somebody: an announcement of a guest at a port, or a stranger’s. */
function frame(w: World, a: number, b: number): void {
  const s = switchOf(w, a);
  const guest = w.guests[b % w.guests.length] as string;
  const spec = [...w.hosts.values()].map((h) => h.guests.get(guest)?.spec).find((x) => x !== undefined);
  const ports = [...s.ports].filter(([no]) => no < LOCAL_PORT);
  const inPort = (ports[b % Math.max(1, ports.length)] ?? [1])[0];
  const own = [...s.ports].find(([, p]) => p.name === `tap-${guest}`)?.[0];
  const stranger = arpPacket({
    op: 1,
    sha: `02:00:00:00:00:${(a % 200).toString(16).padStart(2, '0')}`,
    spa: '10.9.9.9',
    tpa: '10.9.9.1',
  });
  const packet = a % 2 === 0 && spec ? rarpPacket(spec.mac) : stranger;
  if (s.isConnected)
    w.push(s.dpid, {
      kind: 'packetIn',
      dpid: s.dpid,
      inPort: a % 4 < 2 ? (own ?? inPort) : inPort,
      frame: buildFrame(packet),
    });
}
