/**
 * What goes into and comes out of the controller's core. `step.ts` turns an event into a new state and effects;
 * `controller/io/` produces the events, already validated, and carries the effects out.
 */

import type { OfMessage } from 'node-openflow';
import type { AgentCommand, AgentHello, AgentMessage } from '../../contracts/agent.ts';
import type { Enforcement } from '../../contracts/common.ts';
import type { Topic, TopicData } from '../../contracts/feed.ts';
import type { LogLevel } from '../../contracts/log.ts';
import type { PolicyStatus } from '../../contracts/policy.ts';
import type { MigrateRequest } from '../../contracts/rest.ts';
import type { CompiledPolicy } from '../../policies/index.ts';
import type { Flow, Group, GroupAbility } from './flows.ts';
import type { PortOver } from './packetLimits.ts';
import type { ClockOffset } from './telemetry.ts';

/** A switch port as the switch describes it; `speedBps` 0 when it says none. */
export interface PortDescription {
  portNo: number;
  name: string;
  hwAddr: string;
  isUp: boolean;
  speedBps: number;
}

/** A port as its switch's database tells of it, as far as it limits what the port can carry. All bit/s. */
export interface OvsPort {
  /** What its `external_ids:fairway-capacity` says. */
  capacityBps?: number;
  /** Speed of its link. */
  speedBps?: number;
  /** What a QoS that is not ours lets out, and what ingress policing lets in. */
  maxOutBps?: number;
  maxInBps?: number;
}

/** What became of a write. `unknown`: the session ended before the barrier was answered. */
export type WriteOutcome = 'applied' | 'refused' | 'unknown';

export interface PortCounter {
  portNo: number;
  rxBytes: number;
  txBytes: number;
}
export interface QueueCounter {
  portNo: number;
  queueId: number;
  txBytes: number;
}
export interface FlowCounter {
  cookie: bigint;
  packets: number;
  bytes: number;
}

/** Queues of one egress port, as OVSDB is to hold them. Rates in bit/s of whole frames. */
export interface PortQos {
  maxBps: number;
  queues: { id: number; minBps: number; maxBps: number; priority: number }[];
}

export const TUNNEL_KINDS = ['vxlan', 'gre', 'geneve'] as const;
export type TunnelKind = (typeof TUNNEL_KINDS)[number];

/** A port of a switch that leads through an IP network to another switch. */
export interface TunnelPort {
  dpid: string;
  name: string;
  kind: TunnelKind;
  localAddress: string;
  remoteAddress: string;
  /** Destination port, where it is not the assigned one. */
  udpPort?: number;
}

export type Event =
  /** `groups`: those found in the switch; `groupAbility` absent: it has none, or cannot tell what they are. */
  | {
      kind: 'switchUp';
      dpid: string;
      ports: PortDescription[];
      maxMeters: number;
      groupAbility?: GroupAbility;
      flows: Flow[];
      meterIds: number[];
      groups?: Group[];
    }
  | { kind: 'switchDown'; dpid: string }
  | { kind: 'portChanged'; dpid: string; change: 'added' | 'modified' | 'removed'; port: PortDescription }
  /** Ports that sent more packet-ins than they may, by how many, in the last `windowMs`; told of several times a second. */
  | { kind: 'packetInsOver'; dpid: string; windowMs: number; ports: readonly PortOver[] }
  /** What a switch's database says of its ports, by name: the whole of it, at first and whenever it has changed. */
  | { kind: 'ovsPorts'; dpid: string; ports: ReadonlyMap<string, OvsPort> }
  /** A switch's database answers, or does not any more. */
  | { kind: 'ovsdb'; dpid: string; isThere: boolean }
  | { kind: 'packetIn'; dpid: string; inPort: number; frame: Buffer }
  /** Counters of one switch read at one time; flows are ours only. */
  | { kind: 'counters'; dpid: string; ports: PortCounter[]; queues: QueueCounter[]; flows: FlowCounter[] }
  /** Every connected switch has been read, or did not answer in time: rates are as fresh as they get. */
  | { kind: 'sampled' }
  /** `holds`: what was read back of ours after a refusal, since errors do not always say which of a batch were refused. */
  | {
      kind: 'written';
      dpid: string;
      batch: number;
      outcome: WriteOutcome;
      errors: string[];
      /** Among the errors was one of a flow table without room. */
      isTableFull?: boolean;
      /** Among the errors was one about groups. */
      isGroupRefused?: boolean;
      holds?: { flows: Flow[]; meterIds: number[]; groups?: Group[] };
    }
  | { kind: 'qosDone'; link: string; serial: number; enforcement: Enforcement; note: string }
  /** `mtus`: of the ports that were asked for and are known, by name, bytes. */
  | { kind: 'tunnelDone'; dpid: string; name: string; serial: number; note: string; mtus: Record<string, number> }
  | { kind: 'agentUp'; host: string; hello: AgentHello }
  /** `clock`: by how much the agent's clock is ahead of ours, as far as that is known. */
  | { kind: 'agentMessage'; host: string; message: AgentMessage; clock?: ClockOffset }
  | { kind: 'agentDown'; host: string }
  | {
      kind: 'commandDone';
      /** Of whom it was asked. */
      host: string;
      migration: string;
      step: AgentCommand['do'];
      /** Of an order that has one in it. */
      bandwidthBps?: number;
      ok: boolean;
      value?: unknown;
      error?: string;
      /** Why the agent refused, for branching: `host-busy`, `guest-gone`, …. */
      code?: string;
      /** It is not known whether it was done, or the agent was away and was not asked. */
      unknown?: boolean;
    }
  | { kind: 'policyChanged'; policy: CompiledPolicy; status: PolicyStatus }
  | { kind: 'policyRefused'; status: PolicyStatus }
  /** `ids` were drawn by the caller, one per move. */
  | { kind: 'migrate'; request: MigrateRequest; ids: string[]; group: string | null }
  | { kind: 'cancel'; id: string }
  /** Give it up: the agent that would end it does not come back. */
  | { kind: 'forget'; id: string }
  /** Disks that a migration left behind are to be pulled at this rate, bit/s of payload; null: no more. */
  | { kind: 'pull'; id: string; rateBps: number | null }
  | { kind: 'tick' };

export type Effect =
  /** Messages in order, barriers among them; answered by one `written` event of the same batch. */
  | { kind: 'write'; dpid: string; batch: number; messages: OfMessage<4>[] }
  /**
   * `qos` null: remove ours from the port. `isFresh`: nothing of what is there can be relied upon, filters neither.
   * Answered by `qosDone` of the same serial.
   */
  | {
      kind: 'qos';
      link: string;
      isFresh: boolean;
      dpid: string;
      portName: string;
      serial: number;
      qos: PortQos | null;
      filters: { dscp: number; queue: number }[];
    }
  /** `port` null: remove it. Answered by `tunnelDone` of the same serial, with the MTU of the ports named. */
  | { kind: 'tunnel'; dpid: string; name: string; serial: number; port: TunnelPort | null; mtuOf: string[] }
  /** Queues of ours on other ports than these are of an earlier life and are to be removed. */
  | { kind: 'sweepQueues'; keep: { dpid: string; portName: string }[] }
  | { kind: 'packetOut'; dpid: string; portNo: number; frame: Buffer }
  | { kind: 'command'; host: string; migration: string; command: AgentCommand }
  | { [T in Topic]: { kind: 'publish'; topic: T; data: TopicData[T] } }[Topic]
  | { kind: 'journal'; entry: Record<string, unknown> }
  | { kind: 'log'; level: LogLevel; event: string; fields: Record<string, unknown> };
