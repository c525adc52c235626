/**
 * The controller's end of the host agents' connections (`contracts/agent.ts`): checks every message at the border,
 * knows which agent speaks for which host, and matches results to commands. `http.ts` lets agents in by their token;
 * `server.ts` turns what comes in into events for `controller/core`.
 */
import type { RawData, WebSocket } from 'ws';
import {
  AGENT_PROTOCOL,
  type AgentCommand,
  type AgentHello,
  type AgentMessage,
  agentCommandSchema,
  agentMessageSchema,
  type ControllerMessage,
} from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { describeIssues, FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';
import { isNewer, termOf } from '../../contracts/terms.ts';
import { type ClockOffset, withExchange } from '../core/telemetry.ts';

export interface AgentGatewayOptions {
  clock: Clock;
  log: Log;
  /** How often a source shall report progress, ms. */
  progressPeriodMs: number;
  onUp(host: string, hello: AgentHello): void;
  /** Everything but hello and result; `clock`: by how much the agent's clock is ahead of ours, once that is known. */
  onMessage(host: string, message: AgentMessage, clock?: ClockOffset): void;
  onDown(host: string): void;
  /** Of a pair of controllers: the term of this one, 0 before the first. Undefined: it stands alone, and terms say nothing to it. */
  term?(): bigint | undefined;
  /** An agent was led in a newer term than this controller's; it is turned away. */
  onNewerTerm?(term: bigint, host: string): void;
  /** A connection that has not said hello after this long is closed, ms. */
  helloTimeoutMs?: number;
  /** Period of the check whether agents are alive, ms; an agent silent for three is given up. */
  pingMs?: number;
  /** How long an agent whose host connects a second time has to show that it is alive, ms. */
  takeoverMs?: number;
}

interface Session {
  readonly ws: WebSocket;
  host: string | undefined;
  /** The only host it may speak for, by its token; undefined: any. */
  readonly onlyHost: string | undefined;
  isAlive: boolean;
  silentBeats: number;
  refusals: number;
  clock: ClockOffset | undefined;
  isContested: boolean;
  /** Messages that came while it is open whether this session may speak for its host. */
  held: AgentMessage[] | undefined;
  readonly commands: Map<
    number,
    { command: AgentCommand; sentMs: number; resolve(v: unknown): void; reject(e: Error): void; cancelTimer(): void }
  >;
}

const MAX_SILENT_BEATS = 3;
/** So many messages of one connection may be refused; then it is closed. */
const MAX_REFUSALS = 100;
/** An agent that lets this much pile up does not read. */
const MAX_BUFFERED_BYTES = 8 * 1024 * 1024;
const MAX_UNANSWERED = 1_000;
const MAX_HELD = 1_000;

/** The agents that are connected, by host. */
export class AgentGateway {
  readonly #o: Required<AgentGatewayOptions>;
  readonly #sessions = new Set<Session>();
  readonly #byHost = new Map<string, Session>();
  readonly #stopBeat: () => void;
  #nextId = 1;
  #isClosed = false;
  #refused = 0;

  constructor(o: AgentGatewayOptions) {
    const alone = { term: () => undefined, onNewerTerm: () => {} };
    this.#o = { helloTimeoutMs: 5_000, pingMs: 5_000, takeoverMs: 2_000, ...alone, ...o };
    this.#stopBeat = o.clock.every(this.#o.pingMs, () => this.#beat());
  }

  /** Hosts whose agent is connected and has said hello. */
  get hosts(): string[] {
    return [...this.#byHost.keys()].sort();
  }

  /** How many messages of agents were refused so far. */
  get refused(): number {
    return this.#refused;
  }

  /** Takes on a connection that has presented a token, maybe of one host's agent only; it has to say hello first. */
  attach(ws: WebSocket, onlyHost?: string): void {
    const session: Session = {
      ws,
      host: undefined,
      onlyHost,
      isAlive: true,
      silentBeats: 0,
      refusals: 0,
      clock: undefined,
      isContested: false,
      held: undefined,
      commands: new Map(),
    };
    if (this.#isClosed) {
      ws.close(1001, 'the controller stops');
      return;
    }
    this.#sessions.add(session);
    const cancelHello = this.#o.clock.after(this.#o.helloTimeoutMs, () => {
      if (session.host === undefined) this.#end(session, `no hello within ${this.#o.helloTimeoutMs} ms`);
    });
    ws.on('pong', () => {
      session.isAlive = true;
    });
    ws.on('message', (data, isBinary) => {
      session.isAlive = true;
      this.#receive(session, data, isBinary);
    });
    ws.on('error', (e) => this.#o.log('debug', 'agent.connection-error', { host: session.host, error: e.message }));
    ws.on('close', () => {
      cancelHello();
      this.#gone(session, 'its connection was closed');
    });
  }

  /**
   * Has an agent carry out a command; resolves with the `value` of its result.
   * Rejects with FairwayError `AGENT_AWAY` (retryable) when the host's agent is not connected, `AGENT_LOST`
   * (outcomeUnknown) when it was lost before the result, `AGENT_TIMEOUT` (outcomeUnknown) after `timeoutMs`,
   * `AGENT_REFUSED` when it answered that it did not (`cause` is { code, message } as the agent gave them), and
   * `AGENT_COMMAND` (badInput) for a command that the contract does not allow.
   */
  send(host: string, command: AgentCommand, timeoutMs = 30_000): Promise<unknown> {
    const checked = agentCommandSchema.safeParse(command);
    if (!checked.success) {
      const what = `${command.do} for ${host} is not a valid command: ${describeIssues(checked.error)}`;
      return Promise.reject(new FairwayError('AGENT_COMMAND', what, ['badInput']));
    }
    const session = this.#byHost.get(host);
    if (!session) {
      return Promise.reject(away(`the agent of ${host} is not connected; is fairway agent running there?`));
    }
    if (session.ws.bufferedAmount > MAX_BUFFERED_BYTES || session.commands.size >= MAX_UNANSWERED) {
      return Promise.reject(away(`the agent of ${host} does not keep up with its commands`));
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const cancelTimer = this.#o.clock.after(timeoutMs, () => {
        session.commands.delete(id);
        reject(
          new FairwayError('AGENT_TIMEOUT', `the agent of ${host} did not answer ${command.do} in ${timeoutMs} ms`, [
            'outcomeUnknown',
          ]),
        );
      });
      session.commands.set(id, { command, sentMs: this.#o.clock.now(), resolve, reject, cancelTimer });
      this.#say(session, { type: 'command', id, command });
    });
  }

  /** Lets all agents go (they go on with their copies); open commands are rejected with `AGENT_LOST`. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopBeat();
    this.dismiss('the controller stops');
  }

  /** As `close`, but others may come. */
  dismiss(reason: string): void {
    for (const s of [...this.#sessions]) {
      s.ws.close(1001, reason);
      this.#gone(s, reason);
    }
  }

  #say(session: Session, message: ControllerMessage): void {
    if (session.ws.readyState === session.ws.OPEN) session.ws.send(JSON.stringify(message));
  }

  #receive(session: Session, data: RawData, isBinary: boolean): void {
    if (!this.#sessions.has(session)) return;
    const message = parse(data, isBinary);
    if (typeof message === 'string') {
      this.#refuse(session, message);
      return;
    }
    if (session.held) {
      if (session.held.length < MAX_HELD) session.held.push(message);
      else this.#end(session, `more than ${MAX_HELD} messages before the welcome`);
      return;
    }
    this.#take(session, message);
  }

  #take(session: Session, message: AgentMessage): void {
    if (session.host === undefined) {
      if (message.type === 'hello') this.#greet(session, message);
      else this.#end(session, `${message.type} before hello`);
      return;
    }
    if (message.type === 'hello') {
      this.#refuse(session, 'hello was said already');
    } else if (message.type === 'result') {
      const open = session.commands.get(message.id);
      if (!open) {
        // Late: the command was given up meanwhile.
        this.#o.log('info', 'agent.late-result', { host: session.host, id: message.id, ok: message.ok });
        return;
      }
      session.commands.delete(message.id);
      open.cancelTimer();
      if (message.atMs !== undefined)
        session.clock = withExchange(session.clock, open.sentMs, message.atMs, this.#o.clock.now());
      if (message.ok) {
        open.resolve(message.value);
        return;
      }
      const code = message.code ?? 'FAILED';
      const error = message.error ?? 'no reason given';
      const text = `the agent of ${session.host} refused ${open.command.do}: ${error} (${code})`;
      open.reject(new FairwayError('AGENT_REFUSED', text, [], { code, message: error }));
    } else {
      this.#tell(session.host, message.type, () => this.#o.onMessage(session.host as string, message, session.clock));
    }
  }

  #greet(session: Session, hello: AgentHello): void {
    if (session.onlyHost !== undefined && session.onlyHost !== hello.host) {
      this.#end(session, `its token is for ${session.onlyHost} and not for ${hello.host}: make one for ${hello.host}`);
      return;
    }
    const term = this.#o.term();
    const known = hello.term === undefined ? 0n : termOf(hello.term);
    if (term !== undefined && isNewer(known, term)) {
      this.#end(session, `the agent of ${hello.host} was led in term ${known}; this controller is in term ${term}`);
      this.#o.onNewerTerm(known, hello.host);
      return;
    }
    const old = this.#byHost.get(hello.host);
    if (!old) {
      this.#welcome(session, hello);
      return;
    }
    if (old.isContested) {
      this.#end(session, `another connection for ${hello.host} is being decided on; try again`);
      return;
    }
    // The host is known already. Perhaps its agent restarted and the old connection died without a word: ask the old
    // one. What the new one says meanwhile waits: in its socket, save for what had been read already.
    old.isContested = true;
    const held: AgentMessage[] = [];
    session.held = held;
    session.ws.pause();
    let isDecided = false;
    const decide = (isOldAlive: boolean) => {
      if (isDecided) return;
      isDecided = true;
      cancel();
      old.isContested = false;
      old.ws.off('pong', alive);
      old.ws.off('close', dead);
      if (!this.#sessions.has(session)) return;
      session.held = undefined;
      session.ws.resume();
      if (isOldAlive) {
        this.#end(session, `an agent for ${hello.host} is connected already; stop it, or give this one another name`);
        return;
      }
      old.ws.terminate();
      this.#gone(old, 'a new connection took its place');
      this.#welcome(session, hello);
      for (const message of held) this.#take(session, message);
    };
    const alive = () => decide(true);
    const dead = () => decide(false);
    const cancel = this.#o.clock.after(this.#o.takeoverMs, dead);
    old.ws.on('pong', alive);
    old.ws.on('close', dead);
    if (old.ws.readyState === old.ws.OPEN) old.ws.ping();
    else dead();
  }

  #welcome(session: Session, hello: AgentHello): void {
    session.host = hello.host;
    this.#byHost.set(hello.host, session);
    this.#o.log('info', 'agent.up', { host: hello.host, driver: hello.driver, guests: hello.guests.length });
    const term = this.#o.term();
    this.#say(session, {
      ...{ type: 'welcome', protocol: AGENT_PROTOCOL, progressPeriodMs: this.#o.progressPeriodMs },
      ...(term ? { term: String(term) } : {}),
    });
    this.#tell(hello.host, 'hello', () => this.#o.onUp(hello.host, hello));
  }

  /** A message that is not taken is said so and counted; one connection may go wrong so often before it is closed. */
  #refuse(session: Session, reason: string): void {
    this.#refused++;
    session.refusals++;
    this.#o.log('warn', 'agent.refused', { host: session.host ?? null, reason, refusals: session.refusals });
    if (session.host === undefined || session.refusals > MAX_REFUSALS) this.#end(session, reason);
    else this.#say(session, { type: 'refused', reason });
  }

  #end(session: Session, reason: string): void {
    this.#o.log('warn', 'agent.turned-away', { host: session.host ?? null, reason });
    this.#say(session, { type: 'refused', reason });
    // A close frame holds 123 bytes of reason at most.
    session.ws.close(
      1008,
      Buffer.from(reason)
        .subarray(0, 120)
        .toString('latin1')
        .replace(/[^ -~]/g, '?'),
    );
    this.#gone(session, reason);
  }

  #gone(session: Session, why: string): void {
    if (!this.#sessions.delete(session)) return;
    const { host } = session;
    for (const { command, reject, cancelTimer } of session.commands.values()) {
      cancelTimer();
      reject(
        new FairwayError('AGENT_LOST', `the agent of ${host} was lost before it answered ${command.do}: ${why}`, [
          'outcomeUnknown',
        ]),
      );
    }
    session.commands.clear();
    if (host === undefined || this.#byHost.get(host) !== session) return;
    this.#byHost.delete(host);
    this.#o.log('info', 'agent.down', { host, why });
    this.#tell(host, 'down', () => this.#o.onDown(host));
  }

  /** A fault in what listens must not end the connection it came by, nor the others. */
  #tell(host: string, what: string, listener: () => void): void {
    try {
      listener();
    } catch (e) {
      this.#o.log('error', 'agent.listener-failed', { host, what, error: e });
    }
  }

  #beat(): void {
    for (const s of [...this.#sessions]) {
      s.silentBeats = s.isAlive ? 0 : s.silentBeats + 1;
      s.isAlive = false;
      if (s.silentBeats >= MAX_SILENT_BEATS) {
        s.ws.terminate();
        this.#gone(s, `no sign of life for ${s.silentBeats * this.#o.pingMs} ms`);
      } else if (s.ws.readyState === s.ws.OPEN) {
        s.ws.ping();
      }
    }
  }
}

const away = (what: string): FairwayError => new FairwayError('AGENT_AWAY', what, ['retryable']);

/** The message, or why it is none. */
function parse(data: RawData, isBinary: boolean): AgentMessage | string {
  if (isBinary) return 'messages are JSON texts';
  let value: unknown;
  try {
    value = JSON.parse(data.toString());
  } catch (e) {
    return `not JSON: ${(e as Error).message}`;
  }
  const checked = agentMessageSchema.safeParse(value);
  if (checked.success) return checked.data;
  const { type, protocol } = (value ?? {}) as { type?: unknown; protocol?: unknown };
  if (type === 'hello' && protocol !== AGENT_PROTOCOL) {
    return `this controller speaks ${AGENT_PROTOCOL}, the agent ${JSON.stringify(protocol)}; update the older of the two`;
  }
  return `${typeof type === 'string' ? type : 'message'}: ${describeIssues(checked.error)}`;
}
