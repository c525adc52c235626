/**
 * The running controller: puts the sessions, stores and servers of this folder around `controller/core`. Events go in
 * one at a time, effects come out and are carried out; nothing is decided here.
 */
import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { ControllerConfig } from '../../contracts/config.ts';
import type { Topic, TopicData, TopologyView } from '../../contracts/feed.ts';
import type { Log } from '../../contracts/log.ts';
import type { MigrateAnswer, MigrateRequest } from '../../contracts/rest.ts';
import { VERSION } from '../../contracts/version.ts';
import { compilePolicy } from '../../policies/index.ts';
import { METER_BASE, METER_COUNT } from '../core/desired.ts';
import { EMPTY_TABLES } from '../core/difference.ts';
import { movesOf, planEvacuation } from '../core/evacuate.ts';
import type { Effect, Event } from '../core/events.ts';
import { isOurGroup } from '../core/flows.ts';
import { checkCancel, checkRequest } from '../core/jobs.ts';
import { cancelNote, checkForget } from '../core/lost.ts';
import type { Seal } from '../core/packets.ts';
import { checkPull } from '../core/pull.ts';
import { journalOf, restoreJobs } from '../core/restore.ts';
import { type ControllerState, initialState, type Job, type Settings } from '../core/state.ts';
import { stepAll } from '../core/step.ts';
import { tunnelsWanted } from '../core/tunnels.ts';
import { explainedView, policyView, snapshot, statusView, topologyView } from '../core/views.ts';
import { AgentGateway } from './agents.ts';
import { Feed } from './feed.ts';
import { startHttp } from './http.ts';
import { Journal, type JournalLike, MemoryJournal } from './journal.ts';
import { OvsdbClient } from './ovsdb.ts';
import { OvsPortWatch } from './ovsPorts.ts';
import { Pair } from './pair.ts';
import { openPolicyStore, policyDifference } from './policyStores/index.ts';
import { QosManager } from './qos.ts';
import { discoveryKey, makeSeal } from './seal.ts';
import { SwitchServer } from './switches.ts';
import { loadTls } from './tls.ts';
import { TunnelManager, type TunnelOutcome, tunnelNote } from './tunnels.ts';

/** The core is given a tick this often, for what depends on time alone. */
const TICK_MS = 250;
const PROGRESS_PERIOD_MS = 500;
/** Preparing a destination starts a machine; measuring takes its seconds; the rest is quick. */
const COMMAND_MS = { prepare: 60_000, measureDirtyRate: 20_000 } as const;
const DEFAULT_COMMAND_MS = 15_000;
/** Entries after which the journal is written anew. */
const COMPACT_AFTER = 5_000;

/** Events that may be worked on together. */
const BURSTS: ReadonlySet<Event['kind']> = new Set([
  'packetIn',
  'counters',
  'written',
  'switchUp',
  'ovsPorts',
  'packetInsOver',
]);

/** What agents tell of many copies and guests comes in bursts too. */
const goesTogether = (e: Event): boolean =>
  BURSTS.has(e.kind) ||
  (e.kind === 'agentMessage' && (e.message.type === 'progress' || e.message.type === 'telemetry'));

/** Takes the events off the inbox that go into the next step: all those at its head that may go together, else one. */
function takeBurst(inbox: Event[]): Event[] {
  const other = inbox.findIndex((e) => !goesTogether(e));
  return inbox.splice(0, other === -1 ? inbox.length : Math.max(1, other));
}

export interface ServerOptions {
  log: Log;
  clock: Clock;
  /** Presented by agents, feed readers and the CLI. */
  token: string;
  /** Instead of the file named in the configuration; null keeps the journal in memory. */
  journal?: null;
}

export interface FairwayServer {
  readonly openflowPort: number;
  readonly httpPort: number;
  /** Stops. With `removeFlows`, first takes everything of ours out of the connected switches. */
  close(options?: { removeFlows?: boolean }): Promise<void>;
}

function settingsOf(config: ControllerConfig, seal: Seal): Settings {
  return {
    version: VERSION,
    forwarding: config.forwarding,
    capacityOf: (dpid, portName) => config.switches[dpid]?.ports[portName]?.capacity,
    defaultCapacityBps: config.defaultCapacity,
    nameOf: (dpid) => config.switches[dpid]?.name,
    hasQueues: (dpid) => config.switches[dpid]?.ovsdb !== undefined,
    policyStore: config.policy.store,
    seal,
    leadsToIp: (dpid, portName) => config.switches[dpid]?.ports[portName]?.ipNetwork === true,
    tunnels: {
      kind: config.tunnels.kind,
      use: config.tunnels.use,
      addressOf: (dpid) => (config.switches[dpid]?.ovsdb ? config.switches[dpid]?.tunnelAddress : undefined),
      ...(config.tunnels.udpPort === undefined ? {} : { udpPort: config.tunnels.udpPort }),
    },
  };
}

/** Says which guest moves and is never used twice: short enough for file names and command lines. */
const migrationId = (guest: string): string =>
  `${guest.replace(/[^A-Za-z0-9-]/g, '-').slice(0, 27)}-${randomBytes(4).toString('hex')}`;

/** Starts a controller. Ports 0 are any free ones. Throws FairwayError for what cannot be opened, with the cure. */
export async function startController(config: ControllerConfig, o: ServerOptions): Promise<FairwayServer> {
  const { log, clock, token } = o;
  const undo: (() => Promise<void> | void)[] = [];
  const closeAll = async () => {
    for (const u of undo.splice(0).reverse()) await u();
  };
  try {
    return await open();
  } catch (error) {
    await closeAll();
    throw error;
  }

  async function open(): Promise<FairwayServer> {
    const journal: JournalLike = o.journal === null ? new MemoryJournal() : await Journal.open(config.journal, { log });
    undo.push(() => journal.close());

    // Events that come while the parts are still being put together wait here.
    const inbox: Event[] = [];
    let working = true;
    let compacting = false;
    let stopped = false;
    /** On standby: the policy of the one in charge. */
    let leading: unknown;

    const { role, peer } = config.openflow;
    const pair =
      role === 'equal' || peer === undefined
        ? undefined
        : await Pair.open({ configured: role, peer, token, clock, log, journal });
    const isInCharge = (): boolean => pair?.isInCharge ?? true;
    /** Counts the times that this controller began anew: what was asked for in an earlier one is answered to nobody. */
    let life = 0;

    const settings = settingsOf(config, makeSeal(await discoveryKey(config.discovery.keyFile)));
    const store = openPolicyStore(config.policy, { clock, log });
    undo.push(() => store.close());
    const first = await store.start(
      (doc, status) => {
        const isNew = !isDeepStrictEqual(doc, policy.compiled.doc);
        policy = { compiled: compilePolicy(doc), status };
        if (isInCharge()) {
          if (isNew) record(policyEntry());
          emit({ kind: 'policyChanged', policy: policy.compiled, status });
        } else {
          state = fresh();
          takePolicyOver();
        }
      },
      (status) => {
        policy = { ...policy, status };
        if (isInCharge()) emit({ kind: 'policyRefused', status });
        else state = fresh();
      },
    );
    let policy = { compiled: compilePolicy(first.doc), status: first.status };
    const fresh = (): ControllerState => initialState(settings, policy.compiled, policy.status, clock.now());
    let state = isInCharge() ? restoreJobs(fresh(), journal.entries) : fresh();
    const policyEntry = () => ({ type: 'policy', atMs: clock.now(), doc: policy.compiled.doc });
    /** What readers see: on standby, jobs as the other's journal tells of them. */
    const shown = (): ControllerState =>
      pair === undefined || pair.isInCharge ? state : restoreJobs(state, pair.entries);
    const wholeJournal = (): object[] => {
      const own = () => [policyEntry(), ...journalOf(state, clock.now())];
      return pair === undefined ? own() : pair.whole(own);
    };
    await journal.compact(wholeJournal);

    /**
     * A standby's own file or memory is brought to the policy of the one in charge, as by an operator's edit, so that it decides
     * by the same one after a takeover. What is in Redis both read there, and the journal may be behind it.
     */
    function takePolicyOver(): void {
      if (leading === undefined || isInCharge() || stopped || store.kind === 'redis') return;
      const fields = policyDifference(policy.compiled.doc, leading);
      if (fields === undefined || Object.keys(fields).length === 0) return;
      log('warn', 'policy.takenOver', { from: peer, fields: Object.keys(fields).slice(0, 20) });
      store
        .patch(fields, `controller ${peer}`)
        .catch((error) => log('error', 'policy.notTakenOver', { from: peer, error: String(error) }));
    }

    const queues = new Map<string, QosManager>();
    const tunnels = new Map<string, TunnelManager>();
    const portWatches: OvsPortWatch[] = [];
    const databases = new Map<string, OvsdbClient>();
    const tellDatabase = (dpid: string, isThere: boolean) => emit({ kind: 'ovsdb', dpid, isThere });
    for (const [dpid, s] of Object.entries(config.switches)) {
      if (s.ovsdb === undefined) continue;
      const client = new OvsdbClient({ remote: s.ovsdb, clock, log });
      undo.push(() => client.close());
      client.onConnected(() => tellDatabase(dpid, true));
      client.onAway(() => tellDatabase(dpid, false));
      databases.set(dpid, client);
      queues.set(dpid, new QosManager(client, log));
      tunnels.set(dpid, new TunnelManager(client, dpid, log));
      const watch = new OvsPortWatch(client, dpid, log, (ports) => emit({ kind: 'ovsPorts', dpid, ports }));
      undo.push(() => watch.close());
      portWatches.push(watch);
    }
    /** Tunnel ports of ours that no job of the journal needs are of an earlier life. */
    function sweepTunnels(): void {
      const kept = new Set([...tunnelsWanted(state).values()].map((p) => p.name));
      for (const [dpid, ports] of tunnels)
        ports.keepOnly(kept).catch((error) => log('warn', 'tunnels.clear', { dpid, error: String(error) }));
    }
    if (isInCharge()) sweepTunnels();

    /** What the core says of the network, and who is refused as a switch, which only the sessions know. */
    function withRefused(topology: TopologyView): TopologyView {
      const refusedSwitches = switches.describeRefused();
      return refusedSwitches.length === 0 ? topology : { ...topology, refusedSwitches };
    }
    const feed = new Feed({
      snapshot: <T extends Topic>(topic: T) => {
        const whole = snapshot(shown(), topic, clock.now());
        return topic === 'topology' ? (withRefused(whole as TopologyView) as TopicData[T]) : whole;
      },
      clock,
      log,
    });
    undo.push(() => feed.close());
    const agents = new AgentGateway({
      clock,
      log,
      progressPeriodMs: PROGRESS_PERIOD_MS,
      onUp: (host, hello) => emit({ kind: 'agentUp', host, hello }),
      onMessage: (host, message, clock) =>
        emit({ kind: 'agentMessage', host, message, ...(clock === undefined ? {} : { clock }) }),
      onDown: (host) => emit({ kind: 'agentDown', host }),
      ...(pair === undefined
        ? {}
        : { term: () => pair.term, onNewerTerm: (term: bigint, host: string) => pair.heardTerm(term, host) }),
    });
    undo.push(() => agents.close());

    const { tls, peer: _, ...openflow } = config.openflow;
    const secure = tls === undefined ? {} : { tls: await loadTls(tls) };
    const switches = await SwitchServer.listen({
      ...openflow,
      ...(pair === undefined
        ? {}
        : { role: pair.role, ...(pair.isInCharge && pair.term > 0n ? { term: pair.term } : {}) }),
      onTerm: (term) => pair?.settle(term),
      onFenced: () => pair?.stepDown('a switch has another master'),
      onRefused: () => feed.publish('topology', withRefused(topologyView(shown()))),
      ...secure,
      clock,
      log,
      emit,
    });
    undo.push(() => switches.close());

    /** Forgets the network, which has another controller now or is to be found anew. */
    function beginAnew(entries: readonly Record<string, unknown>[]): void {
      life++;
      inbox.length = 0;
      filtersSet.clear();
      state = restoreJobs(fresh(), entries);
      for (const watch of portWatches) watch.tellAgain();
      for (const [dpid, client] of databases) if (!client.connected) tellDatabase(dpid, false);
    }

    function startPair(pair: Pair): void {
      pair.start({
        whole: wholeJournal,
        knownGeneration: () => switches.knownGeneration,
        onPolicy(doc) {
          leading = doc;
          takePolicyOver();
        },
        onTakeOver(term, entries) {
          leading = undefined;
          beginAnew(entries);
          sweepTunnels();
          feed.resync();
          // No switch is told of a term that the journal may forget.
          journal
            .flush()
            .catch((error) => log('error', 'journal.write-failed', { error: String(error) }))
            .finally(() => {
              if (pair.isInCharge && pair.term === term && !stopped) switches.takeOver(term);
            });
        },
        onStepDown() {
          const own = [policyEntry(), ...journalOf(state, clock.now())];
          beginAnew([]);
          switches.standBy();
          agents.dismiss('another controller is in charge');
          feed.resync();
          return own;
        },
      });
      undo.push(() => pair.close());
    }

    /**
     * Takes an event in; all that are waiting are worked on in order. What comes in bursts, from many switches at a time, is
     * gathered until the end of the event loop's turn and worked on as one; whatever comes first of the rest takes it along.
     */
    function emit(event: Event): void {
      // On standby there is nothing to decide, and what still comes in is of the time before.
      if (stopped || !isInCharge()) return;
      inbox.push(event);
      if (working) return;
      if (!goesTogether(event)) work();
      else if (inbox.length === 1) setImmediate(workLater);
    }

    function workLater(): void {
      if (!working && !stopped) work();
    }

    function work(): void {
      working = true;
      try {
        while (inbox.length > 0) {
          const result = stepAll(state, takeBurst(inbox), clock.now());
          state = result.state;
          // What was decided is written down before it is done.
          for (const effect of result.effects) if (effect.kind === 'journal') record(effect.entry);
          for (const effect of result.effects) carryOut(effect);
          if (journal.appended >= COMPACT_AFTER) compact();
        }
      } finally {
        working = false;
      }
    }

    function record(entry: object): void {
      journal.append(entry);
      pair?.tell(entry);
    }

    /** Ended migrations need not be told of for ever: the journal is written anew with what is known now. */
    function compact(): void {
      if (compacting) return;
      compacting = true;
      journal
        .compact(wholeJournal)
        .catch((error) => log('error', 'journal.compact', { error: String(error) }))
        .finally(() => {
          compacting = false;
        });
    }

    function carryOut(e: Effect): void {
      switch (e.kind) {
        case 'write':
          switches.write(e.dpid, e.batch, e.messages);
          break;
        case 'packetOut':
          switches.packetOut(e.dpid, e.portNo, e.frame);
          break;
        case 'qos':
          void setQueues(e);
          break;
        case 'tunnel':
          void setTunnel(e);
          break;
        case 'sweepQueues':
          for (const [dpid, manager] of queues) {
            // Several datapaths may share one database.
            const remote = config.switches[dpid]?.ovsdb;
            const keep = e.keep.filter((k) => config.switches[k.dpid]?.ovsdb === remote).map((k) => k.portName);
            manager.keepOnly(keep).catch((error) => log('warn', 'queues.clear', { dpid, error: String(error) }));
          }
          break;
        case 'command':
          void command(e);
          break;
        case 'publish':
          if (e.topic === 'topology') feed.publish(e.topic, withRefused(e.data));
          else feed.publish(e.topic, e.data);
          break;
        case 'journal': // Written down first, see `work`.
          break;
        case 'log':
          log(e.level, e.event, e.fields);
      }
    }

    /** Takes the answer to what is asked for now, unless all began anew meanwhile. */
    function inThisLife(): (event: Event) => void {
      const asked = life;
      return (event) => {
        if (asked === life) emit(event);
      };
    }

    async function command(e: Extract<Effect, { kind: 'command' }>): Promise<void> {
      const answer = inThisLife();
      const paced = 'bandwidthBps' in e.command ? { bandwidthBps: e.command.bandwidthBps } : {};
      const done = { kind: 'commandDone', host: e.host, migration: e.migration, step: e.command.do, ...paced } as const;
      const limit =
        e.command.do === 'prepare' || e.command.do === 'measureDirtyRate'
          ? COMMAND_MS[e.command.do]
          : DEFAULT_COMMAND_MS;
      try {
        // An order goes out when the journal knows of it: a controller that dies now will know what it has asked for.
        await journal.written();
        const value = await agents.send(e.host, e.command, limit);
        answer({ ...done, ok: true, value });
      } catch (error) {
        const isAway = error instanceof FairwayError && error.code === 'AGENT_AWAY' && !agents.hosts.includes(e.host);
        const unknown = isAway || (error instanceof FairwayError && error.has('outcomeUnknown'));
        const code = refusalCode(error);
        const text = error instanceof Error ? error.message : String(error);
        answer({ ...done, ok: false, error: text, unknown, ...(code === undefined ? {} : { code }) });
      }
    }

    async function setTunnel(e: Extract<Effect, { kind: 'tunnel' }>): Promise<void> {
      const { dpid, name, serial } = e;
      const answer = inThisLife();
      const done = (o: TunnelOutcome) => answer({ kind: 'tunnelDone', dpid, name, serial, ...o });
      const manager = tunnels.get(dpid);
      try {
        if (manager) done(await (e.port ? manager.apply(e.port, e.mtuOf) : manager.remove(name)));
        else done({ note: `switch ${dpid} has no OVSDB address in the configuration`, mtus: {} });
      } catch (error) {
        done({ note: tunnelNote(error), mtus: {} });
      }
    }

    type Filters = Extract<Effect, { kind: 'qos' }>['filters'];
    /** Filters set on a port, by link, so that they are set again only when they must change. */
    const filtersSet = new Map<string, Filters>();

    /**
     * Queues in OVSDB, and, on a host with an agent, the filters that lead marked packets into them. A filter is there
     * only while its queue is: the kernel does not let go of a queue that a filter still points to.
     */
    async function setQueues(e: Extract<Effect, { kind: 'qos' }>): Promise<void> {
      const answer = inThisLife();
      const done = (note: string) =>
        answer({ kind: 'qosDone', link: e.link, serial: e.serial, enforcement: note === '' ? 'queue' : 'pace', note });
      const manager = queues.get(e.dpid);
      if (!manager) return done('the switch has no OVSDB address in the configuration');
      const host = [...state.agents.values()].find((a) => a.dpid === e.dpid && a.connected)?.host;
      const setFilters = async (filters: Filters) => {
        if (host === undefined) return;
        await agents.send(host, { do: 'queueFilters', portName: e.portName, filters }, DEFAULT_COMMAND_MS);
        filtersSet.set(e.link, filters);
      };
      try {
        const had = e.isFresh ? [] : (filtersSet.get(e.link) ?? []);
        const kept = had.filter((h) => e.filters.some((f) => f.dscp === h.dscp && f.queue === h.queue));
        if (kept.length < had.length) await setFilters(kept);
        if (!e.qos) {
          await manager.clearPort(e.portName);
          filtersSet.delete(e.link);
          return done('');
        }
        const outcome = await manager.applyPort(e.portName, e.qos);
        if (!outcome.applied) return done(outcome.reason);
        if (e.isFresh || kept.length < e.filters.length) await setFilters(e.filters);
        return done('');
      } catch (error) {
        return done(error instanceof Error ? error.message : String(error));
      }
    }

    /** Asks the core for migrations. */
    async function start(request: MigrateRequest): Promise<MigrateAnswer> {
      pair?.mustBeInCharge();
      checkRequest(state, request);
      const ids = request.moves.map((m) => migrationId(m.guest));
      const group = ids.length > 1 ? `g-${randomBytes(5).toString('hex')}` : null;
      emit({ kind: 'migrate', request, ids, group });
      await journal.flush();
      return { migrations: request.moves.map((m, i) => ({ id: ids[i] as string, guest: m.guest })), group };
    }

    const http = await startHttp({
      ...config.http,
      token,
      log,
      clock,
      version: VERSION,
      feed,
      agents,
      ...(pair === undefined ? {} : { pair }),
      handlers: {
        status: () => ({
          ...statusView(shown(), clock.now()),
          sessions: switches.describe(),
          refusedSwitches: switches.describeRefused(),
          ...(pair === undefined ? {} : { pair: { role: pair.role, term: String(pair.term), peer: pair.peer } }),
        }),
        migrate: start,
        evacuate: async (request) => {
          pair?.mustBeInCharge();
          const found = planEvacuation(state, request, clock.now());
          if (request.dryRun || found.moves.length === 0) return found;
          const { group, migrations } = await start(movesOf(found));
          const idOf = new Map(migrations.map((m) => [m.guest, m.id]));
          return { ...found, group, moves: found.moves.map((m) => ({ ...m, migration: idOf.get(m.guest) ?? null })) };
        },
        migration: (id) => {
          const seen = shown();
          const job = seen.jobs.get(id);
          return job && explainedView(seen, job, clock.now());
        },
        cancel: async (id, forget) => {
          pair?.mustBeInCharge();
          if (forget) checkForget(state, id);
          else checkCancel(state, id);
          const note = forget ? null : cancelNote(state, id, clock.now());
          emit({ kind: forget ? 'forget' : 'cancel', id });
          await journal.flush();
          return forget ? (state.jobs.get(id)?.note ?? null) : note;
        },
        pull: async (id, rateBps) => {
          pair?.mustBeInCharge();
          checkPull(state, id, rateBps);
          emit({ kind: 'pull', id, rateBps });
          await journal.flush();
          return explainedView(state, state.jobs.get(id) as Job, clock.now());
        },
        policy: () => policyView(state),
        patchPolicy: async (fields, author) => {
          pair?.mustBeInCharge();
          await store.patch(fields, author);
          return policyView(state);
        },
        policyHistory: () => ({ edits: [...store.history()] }),
      },
    });
    undo.push(() => http.close());
    if (pair) startPair(pair);
    work();

    undo.push(clock.every(TICK_MS, () => emit({ kind: 'tick' })));
    let sampling = false;
    /** When the last reading was due: the next one is a period of the policy in force later, also when that was edited since. */
    let dueMs = Number.NEGATIVE_INFINITY;
    // Ten times finer than the shortest period a policy may ask for, so that periods are kept to a tenth.
    undo.push(
      clock.every(50, () => {
        const now = clock.now();
        const { periodMs } = state.policy.doc.reservation;
        if (sampling || now < dueMs + periodMs) return;
        dueMs = Math.max(dueMs + periodMs, now - periodMs / 2);
        sampling = true;
        void switches
          .sampleAll((dpid) => queues.has(dpid), periodMs / 2)
          .then(() => emit({ kind: 'sampled' }))
          .finally(() => {
            sampling = false;
          });
      }),
    );

    log('info', 'controller.up', {
      ...(pair === undefined ? {} : { role: pair.role, term: String(pair.term) }),
      openflowPort: switches.port,
      httpPort: http.port,
      forwarding: config.forwarding,
      policy: config.policy.store,
    });
    return {
      openflowPort: switches.port,
      httpPort: http.port,
      async close({ removeFlows = false } = {}) {
        stopped = true;
        if (removeFlows && isInCharge()) {
          await switches.removeAll((dpid) => {
            const { meters, groups } = state.switches.get(dpid)?.installed ?? EMPTY_TABLES;
            const ours = [...meters.keys()].filter((id) => id >= METER_BASE && id < METER_BASE + METER_COUNT);
            return { meters: ours, groups: [...groups.keys()].filter(isOurGroup) };
          });
          for (const [dpid, m] of queues)
            await m.clearAll().catch((error) => log('warn', 'queues.clear', { dpid, error: String(error) }));
          for (const [dpid, m] of tunnels)
            await m.keepOnly(new Set()).catch((error) => log('warn', 'tunnels.clear', { dpid, error: String(error) }));
        }
        await closeAll();
        log('info', 'controller.down');
      },
    };
  }
}

/** The code that an agent refused a command with; undefined when it was not the agent that refused. */
function refusalCode(error: unknown): string | undefined {
  const cause = error instanceof FairwayError ? error.cause : undefined;
  const code = typeof cause === 'object' && cause !== null ? (cause as { code?: unknown }).code : undefined;
  return typeof code === 'string' ? code : undefined;
}
