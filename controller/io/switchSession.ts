/**
 * The session with one switch, over node-openflow's `OfConnection`: who it is, what it holds of ours, counters, and which of its
 * packet-ins the core sees; `switchWrites.ts` writes for it. `switches.ts` accepts and makes the connections and holds the
 * sessions; `core/versions.ts` lets switches of 1.4 and 1.5 look like 1.3 from here on.
 */
import {
  attach,
  type DuplexLike,
  OfConnection,
  OfConnectionError,
  type OfMessage,
  type OfRequest,
  OfRequestError,
  of13,
  ofproto_v1_3 as ofp,
  type RoundTrip,
} from 'node-openflow';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import { isNewer, sameGeneration } from '../../contracts/terms.ts';
import type { PeerCertificate } from '../core/certificates.ts';
import { OURS } from '../core/cookies.ts';
import type { Event, FlowCounter, PortCounter, PortDescription, QueueCounter } from '../core/events.ts';
import { type Flow, flow, type Group, type GroupAbility, groupFound, isOurGroup } from '../core/flows.ts';
import { PacketInLimiter } from '../core/packetLimits.ts';
import { type ControllerRole, IS_SLAVE } from '../core/roles.ts';
import { fromVersion, SWITCH_VERSIONS, type SwitchVersion, toVersion } from '../core/versions.ts';
import { SwitchWriter, type WriteResult } from './switchWrites.ts';

const HELLO_MS = 10_000;
/** From the first byte until all is read that a switch is asked at first. */
const INTRODUCTION_MS = 30_000;
const REQUEST_MS = 8000;
/** An echo request is sent this often; three without a word from the switch end the session. */
const ECHO_MS = 5000;
/** A session whose place another wants has this long to prove that it is alive. */
const PROOF_MS = 2000;
const ROLE_TRIES = 5;
/** Output waiting for a switch that does not read; beyond it the session is useless and is ended. */
const MAX_UNSENT_BYTES = 64 * 2 ** 20;

/** What a session asks of the server that holds it. */
export interface SessionOwner {
  readonly clock: Clock;
  emit(event: Event): void;
  /** For what strangers can make happen as often as they like. */
  logLimited(event: string, fields: Record<string, unknown>): void;
  /** Takes a datapath id for the session. Answers why not, where it cannot have it. */
  claim(dpid: string, session: SwitchSession): Promise<string | undefined>;
  /** `isRefused`: it was not served at all, and the reason is why. */
  gone(session: SwitchSession, reason: string, isRefused: boolean): void;
  readonly role: ControllerRole;
  /** The newest generation id that a switch knows. */
  heardGeneration(known: bigint): void;
  /** The generation id by which this controller is in charge. */
  generation(): bigint;
  /** The switch refused what only its master may do, or knows of a newer master. */
  fenced(dpid: string): void;
  /** Resolves when this controller is to be in charge, or the session is over; at once where it is not on standby. */
  whenInCharge(session: SwitchSession): Promise<void>;
}

type PortDesc = { port_no: number; name: string; hw_addr: string; config: number; state: number; curr_speed: number };

function describe(p: PortDesc): PortDescription {
  const isUp = (p.config & ofp.OFPPC_PORT_DOWN) === 0 && (p.state & ofp.OFPPS_LINK_DOWN) === 0;
  // The LOCAL port of a bridge is down as a device until it has an address, and yet it is where the host lives.
  return {
    portNo: p.port_no,
    name: p.name,
    hwAddr: p.hw_addr,
    isUp: isUp || p.port_no === ofp.OFPP_LOCAL,
    speedBps: p.curr_speed * 1000,
  };
}

const dpidText = (id: bigint): string => id.toString(16).padStart(16, '0');
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const isStale = (error: unknown): boolean => messageOf(error).includes('OFPRRFC_STALE');

export class SwitchSession {
  readonly remote: string;
  readonly certificate: PeerCertificate | undefined;
  readonly limiter: PacketInLimiter;
  /** Known once the switch has said it and may have it. */
  dpid: string | undefined;
  /** As whom it presented itself. */
  said: string | undefined;
  /** The core was told of this switch. */
  isAnnounced = false;
  readonly #owner: SessionOwner;
  readonly #connection: OfConnection<SwitchVersion>;
  readonly #writer: SwitchWriter;
  readonly #cancelDeadline: () => void;
  #version: SwitchVersion = 4;
  #closed = false;
  #isRefused = false;
  #hasMeters = false;
  /** It says that it can tell of its groups. */
  #saysGroups = false;

  constructor(owner: SessionOwner, duplex: DuplexLike, remote: string, certificate?: PeerCertificate) {
    this.#owner = owner;
    this.remote = remote;
    this.certificate = certificate;
    const { clock } = owner;
    this.limiter = new PacketInLimiter(clock.now());
    this.#cancelDeadline = clock.after(INTRODUCTION_MS, () => {
      if (!this.isAnnounced) this.#refuse('it did not say in time who it is and what it holds');
    });
    this.#connection = new OfConnection<SwitchVersion>(
      {
        onUp: ({ version, features }) => {
          this.#version = version;
          if (features === undefined) return;
          this.#saysGroups = (features.capabilities & ofp.OFPC_GROUP_STATS) !== 0;
          this.#introduce(dpidText(features.datapath_id)).catch((error) =>
            this.#refuse(`it could not be set up: ${messageOf(error)}`),
          );
        },
        onMessage: (m) => this.#dispatch(m),
        onError: (error) => {
          owner.logLimited('switch.error', { dpid: this.dpid, remote, error: error.symbol, xid: error.error.xid });
          if (this.dpid !== undefined && error.code === IS_SLAVE) owner.fenced(this.dpid);
        },
        onBadMessage: (error) =>
          owner.logLimited('switch.badMessage', { dpid: this.dpid, remote, error: error.message }),
        onDown: ({ code, message }) => this.#over(message, code === 'version'),
      },
      {
        versions: SWITCH_VERSIONS,
        prefer: [ofp.OFP_VERSION],
        versionAdvice: 'Fairway needs the flow tables of OpenFlow 1.3: set protocols=OpenFlow13 on the bridge',
        helloTimeoutMs: HELLO_MS,
        requestTimeoutMs: REQUEST_MS,
        echoIntervalMs: ECHO_MS,
        maxQueuedBytes: MAX_UNSENT_BYTES,
      },
    );
    this.#writer = new SwitchWriter(this.#connection, (errors) =>
      owner.logLimited('switch.bundleRefused', { dpid: this.dpid, errors, bundles: this.bundles }),
    );
    attach(this.#connection, duplex, {
      now: () => clock.now(),
      after: (ms, fn) => clock.after(ms, fn),
      soon: setImmediate,
    });
  }

  get version(): SwitchVersion {
    return this.#version;
  }
  get isClosed(): boolean {
    return this.#closed;
  }
  /** Echo round trips; undefined before the first. */
  get roundTrip(): RoundTrip | undefined {
    return this.#connection.roundTrip;
  }

  /** Whether writes go in bundles. */
  get bundles(): SwitchWriter['bundles'] {
    return this.#writer.bundles;
  }

  close(reason: string): void {
    this.#connection.close(reason);
  }

  /** Whether the switch answers an echo. */
  async isAlive(): Promise<boolean> {
    try {
      await this.request(of13.OFPEchoRequest({ data: Buffer.from('alive?') }), PROOF_MS);
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Sends a request and waits for the whole answer.
   *
   * @throws (rejects with) FairwayError SWITCH_REQUEST, labelled outcomeUnknown where no answer came
   */
  async request(message: OfMessage<4>, timeoutMs = REQUEST_MS): Promise<OfMessage<4>> {
    const fail = (why: string, isUnknown: boolean) =>
      new FairwayError(
        'SWITCH_REQUEST',
        `${message.cls} to ${this.dpid ?? this.remote}: ${why}`,
        isUnknown ? ['outcomeUnknown'] : [],
      );
    let reply: OfMessage<4> | undefined;
    try {
      const translated = toVersion(message, this.#version) as OfRequest<SwitchVersion>;
      reply = fromVersion(await this.#connection.request(translated, { timeoutMs }));
    } catch (error) {
      const isUnknown = error instanceof OfConnectionError && error.outcomeUnknown;
      throw fail(error instanceof OfRequestError ? error.symbol : messageOf(error), isUnknown);
    }
    if (reply === undefined) throw fail('the answer is of no use to this controller', false);
    return reply;
  }

  // ---- who it is ---------------------------------------------------------------------------------------------------

  /** Takes its place, and asks what ports the switch has and what it holds of ours. */
  async #introduce(dpid: string): Promise<void> {
    this.said = dpid;
    const refusal = await this.#owner.claim(dpid, this);
    if (this.#closed) return;
    if (refusal !== undefined) {
      this.#refuse(refusal);
      return;
    }
    this.dpid = dpid;
    await this.#takeRole();
    if (this.#closed) return;
    // Its answer comes while the rest is asked for, and nothing waits for it.
    void this.#writer.askForBundles();
    this.#connection.send(toVersion(of13.OFPSetConfig({ flags: 0, miss_send_len: 128 }), this.#version));
    const ports = await this.request(of13.OFPPortDescStatsRequest({}));
    const maxMeters = await this.request(of13.OFPMeterFeaturesStatsRequest({})).then(
      (r) => (r.cls === 'OFPMeterFeaturesStatsReply' ? (r.body[0]?.max_meter ?? 0) : 0),
      () => 0,
    );
    this.#hasMeters = maxMeters > 0;
    const groupAbility = await this.#groupAbility();
    const holds = await this.readBack();
    if (this.#closed) return;
    this.isAnnounced = true;
    this.#cancelDeadline();
    const described = ports.cls === 'OFPPortDescStatsReply' ? ports.body.map(describe) : [];
    const ability = groupAbility === undefined ? {} : { groupAbility };
    this.#owner.emit({ kind: 'switchUp', dpid, ports: described, maxMeters, ...ability, ...holds });
  }

  /** Takes this controller's role at the switch; on standby, waits until there is something to do. */
  async #takeRole(): Promise<void> {
    if (this.#owner.role === 'equal') return;
    this.#owner.heardGeneration(await this.#knownGeneration());
    if (this.#owner.role === 'standby') {
      await this.#becomeSlave();
      // It may be a long wait, and there is nothing to be late for.
      this.#cancelDeadline();
      await this.#owner.whenInCharge(this);
      if (this.#closed) return;
    }
    const generation_id = this.#owner.generation();
    try {
      await this.request(of13.OFPRoleRequest({ role: ofp.OFPCR_ROLE_MASTER, generation_id }));
    } catch (error) {
      // Another has been given charge since: asking under a newer id would be taking it back.
      if (isStale(error) && this.dpid !== undefined) this.#owner.fenced(this.dpid);
      throw error;
    }
  }

  /** Asks whether this controller is still the switch's master: a switch of 1.3 says nothing when another takes its place. */
  async checkRole(): Promise<void> {
    if (this.dpid === undefined || !this.isAnnounced || this.#owner.role !== 'primary') return;
    const r = await this.request(of13.OFPRoleRequest({ role: ofp.OFPCR_ROLE_NOCHANGE, generation_id: 0n }));
    if (this.#closed || this.#owner.role !== 'primary' || r.cls !== 'OFPRoleReply') return;
    const isOver = r.role === ofp.OFPCR_ROLE_SLAVE || isNewer(r.generation_id, this.#owner.generation());
    if (isOver) this.#owner.fenced(this.dpid);
  }

  async #knownGeneration(): Promise<bigint> {
    const known = await this.request(of13.OFPRoleRequest({ role: ofp.OFPCR_ROLE_NOCHANGE, generation_id: 0n }));
    return known.cls === 'OFPRoleReply' ? known.generation_id : 0n;
  }

  /** Becomes a slave under the newest id that the switch knows; again when another was quicker. */
  async #becomeSlave(): Promise<void> {
    for (let triesLeft = ROLE_TRIES; ; triesLeft--) {
      const generation_id = sameGeneration(await this.#knownGeneration());
      try {
        await this.request(of13.OFPRoleRequest({ role: ofp.OFPCR_ROLE_SLAVE, generation_id }));
        return;
      } catch (error) {
        if (triesLeft <= 1 || !isStale(error)) throw error;
      }
    }
  }

  /** Ends a session that is not to be, for a reason that its operator should see. */
  #refuse(reason: string): void {
    this.#isRefused = true;
    this.close(reason);
  }

  #over(reason: string, isOtherVersion: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelDeadline();
    this.#owner.gone(this, reason, this.#isRefused || isOtherVersion);
  }

  // ---- what it holds -----------------------------------------------------------------------------------------------

  async #meterIds(): Promise<number[]> {
    if (!this.#hasMeters) return [];
    try {
      const r = await this.request(of13.OFPMeterConfigStatsRequest({ meter_id: ofp.OFPM_ALL }));
      return r.cls === 'OFPMeterConfigStatsReply' ? r.body.map((m) => m.meter_id) : [];
    } catch {
      // Switches without meters answer with an error although they have meter features.
      return [];
    }
  }

  /** What the switch holds of ours. */
  async readBack(): Promise<{ flows: Flow[]; meterIds: number[]; groups?: Group[] }> {
    const held = { flows: await this.readFlows(), meterIds: await this.#meterIds() };
    return this.#saysGroups ? { ...held, groups: await this.#readGroups() } : held;
  }

  /** Which of the groups that forwarding uses the switch can have. */
  async #groupAbility(): Promise<GroupAbility | undefined> {
    if (!this.#saysGroups) return undefined;
    try {
      const r = await this.request(of13.OFPGroupFeaturesStatsRequest({}));
      if (r.cls !== 'OFPGroupFeaturesStatsReply') return undefined;
      const { types, max_groups } = r.body;
      const has = (type: number) => (types & (1 << type)) !== 0 && (max_groups[type] ?? 0) > 0;
      return { select: has(ofp.OFPGT_SELECT), failover: has(ofp.OFPGT_FF) };
    } catch {
      // What was asked for is optional; a switch that says it has it and then refuses has none.
      this.#saysGroups = false;
      return undefined;
    }
  }

  /** Groups of our range that the switch holds. */
  async #readGroups(): Promise<Group[]> {
    const r = await this.request(of13.OFPGroupDescStatsRequest({}));
    return r.cls === 'OFPGroupDescStatsReply' ? r.body.filter((g) => isOurGroup(g.group_id)).map(groupFound) : [];
  }

  /** Flows of ours that the switch holds. */
  async readFlows(): Promise<Flow[]> {
    const r = await this.request(this.#ours());
    if (r.cls !== 'OFPFlowStatsReply') throw new Error(`flow stats were answered by ${r.cls}`);
    return r.body.map((f) =>
      flow({ table: f.table_id, priority: f.priority, match: f.match, instructions: f.instructions, cookie: f.cookie }),
    );
  }

  #ours() {
    return of13.OFPFlowStatsRequest({
      table_id: ofp.OFPTT_ALL,
      out_port: ofp.OFPP_ANY,
      out_group: ofp.OFPG_ANY,
      cookie: OURS.cookie,
      cookie_mask: OURS.mask,
      match: of13.OFPMatch({}),
    });
  }

  // ---- writes ------------------------------------------------------------------------------------------------------

  /** Carries a write of the core's out; see `SwitchWriter`. */
  write(messages: readonly OfMessage<4>[]): Promise<WriteResult> {
    return this.#writer.write(messages);
  }

  packetOut(portNo: number, frame: Buffer): void {
    if (this.#closed) return;
    const actions = [of13.OFPActionOutput({ port: portNo, max_len: 0 })];
    const message = of13.OFPPacketOut({
      buffer_id: ofp.OFP_NO_BUFFER,
      in_port: ofp.OFPP_CONTROLLER,
      actions,
      data: frame,
    });
    this.#connection.send(toVersion(message, this.#version));
  }

  // ---- what it tells -----------------------------------------------------------------------------------------------

  /** Reads all counters and emits them as one event. */
  async sample(withQueues: boolean): Promise<void> {
    const { dpid } = this;
    if (dpid === undefined || !this.isAnnounced) return;
    // Asked for in one write, so that they are read as close together as the switch can.
    const queueRequest = of13.OFPQueueStatsRequest({ port_no: ofp.OFPP_ANY, queue_id: ofp.OFPQ_ALL });
    const [p, q, f] = await Promise.all([
      this.request(of13.OFPPortStatsRequest({ port_no: ofp.OFPP_ANY })),
      withQueues ? this.request(queueRequest).catch(() => undefined) : undefined,
      this.request(this.#ours()),
    ]);
    const ports: PortCounter[] =
      p.cls === 'OFPPortStatsReply'
        ? p.body.map((s) => ({ portNo: s.port_no, rxBytes: Number(s.rx_bytes), txBytes: Number(s.tx_bytes) }))
        : [];
    const queues: QueueCounter[] =
      q?.cls === 'OFPQueueStatsReply'
        ? q.body.map((s) => ({ portNo: s.port_no, queueId: s.queue_id, txBytes: Number(s.tx_bytes) }))
        : [];
    const flows: FlowCounter[] =
      f.cls === 'OFPFlowStatsReply'
        ? f.body.map((s) => ({ cookie: s.cookie, packets: Number(s.packet_count), bytes: Number(s.byte_count) }))
        : [];
    if (!this.#closed) this.#owner.emit({ kind: 'counters', dpid, ports, queues, flows });
  }

  #dispatch(message: OfMessage<SwitchVersion>): void {
    const { dpid } = this;
    if (dpid === undefined || !this.isAnnounced) return;
    if (message.cls === 'OFPPacketIn') {
      // Before anything else is done for it: this is what comes in floods.
      const inPort = message.match.fields.in_port;
      if (typeof inPort !== 'number' || !this.limiter.admits(inPort, message.data, this.#owner.clock.now())) return;
      this.#owner.emit({ kind: 'packetIn', dpid, inPort, frame: Buffer.from(message.data) });
      return;
    }
    const m = fromVersion(message);
    if (m?.cls !== 'OFPPortStatus') return;
    const change = m.reason === ofp.OFPPR_ADD ? 'added' : m.reason === ofp.OFPPR_DELETE ? 'removed' : 'modified';
    this.#owner.emit({ kind: 'portChanged', dpid, change, port: describe(m.desc) });
  }
}
