/**
 * A client of a running controller: the HTTP interface of `contracts/rest.ts` and the feed of `contracts/feed.ts`.
 * Commands, the demo and the lab all speak to a controller through this class. It keeps no state between calls.
 */
import { WebSocket } from 'ws';
import type { z } from 'zod';
import { describeIssues, type ErrorLabel, FairwayError } from '../contracts/common.ts';
import {
  type FeedEnvelope,
  feedEnvelopeSchema,
  type MigrationView,
  migrationViewSchema,
  type PolicyView,
  policyViewSchema,
  type Topic,
} from '../contracts/feed.ts';
import {
  AUTHOR_HEADER,
  cancelAnswerSchema,
  type Evacuation,
  type evacuateRequestSchema,
  evacuationSchema,
  type MigrateAnswer,
  migrateAnswerSchema,
  type migrateRequestSchema,
  type PolicyHistory,
  type PolicyPatch,
  policyHistorySchema,
  type StatusView,
  statusViewSchema,
} from '../contracts/rest.ts';

export interface ClientOptions {
  /** `http://host:port` of the controller. */
  url: string;
  token: string;
  /** Longest wait for an answer, and longest silence of the feed (heartbeats come far more often), ms. */
  timeoutMs?: number;
  /** Ends requests under way. */
  signal?: AbortSignal;
}

/** A request as it may be written; the controller fills in the defaults. */
export type MigrateInput = z.input<typeof migrateRequestSchema>;
export type EvacuateInput = z.input<typeof evacuateRequestSchema>;

const LABELS: Record<number, ErrorLabel[]> = {
  400: ['badInput'],
  401: ['unauthorized'],
  403: ['unauthorized'],
  404: ['notFound'],
  409: ['conflict'],
  503: ['retryable'],
};

/** Every method rejects with FairwayError: code `client.*` for trouble on the way, the controller's own code otherwise. */
export class FairwayClient {
  readonly url: string;
  readonly #token: string;
  readonly #timeoutMs: number;
  readonly #signal: AbortSignal | undefined;

  constructor(o: ClientOptions) {
    this.url = o.url.replace(/\/+$/, '');
    this.#token = o.token;
    this.#timeoutMs = o.timeoutMs ?? 30_000;
    this.#signal = o.signal;
  }

  /** Whether a controller answers at all; needs no token. */
  async isUp(): Promise<boolean> {
    return fetch(`${this.url}/healthz`, { signal: AbortSignal.timeout(this.#timeoutMs) }).then(
      (r) => r.ok,
      () => false,
    );
  }

  status(): Promise<StatusView> {
    return this.#call('GET', '/v1/status', statusViewSchema);
  }

  /** Asks for migrations; they run after the answer. Follow them with `migration(id)` or the feed. */
  migrate(request: MigrateInput): Promise<MigrateAnswer> {
    return this.#call('POST', '/v1/migrations', migrateAnswerSchema, request);
  }

  /** Empties a host, or says with `dryRun` where its guests would go and when. */
  evacuate(request: EvacuateInput): Promise<Evacuation> {
    return this.#call('POST', '/v1/evacuations', evacuationSchema, request);
  }

  migration(id: string): Promise<MigrationView> {
    return this.#call('GET', `/v1/migrations/${encodeURIComponent(id)}`, migrationViewSchema);
  }

  /**
   * Asks for the end of a migration; the guest goes on at its source. Refused (conflict) once it cannot go back. `forget`: gives it
   * up, because the agent that would end it does not come back; refused while that is there. Answers what one should know, or null.
   */
  async cancel(id: string, forget = false): Promise<string | null> {
    const path = `/v1/migrations/${encodeURIComponent(id)}${forget ? '?forget=true' : ''}`;
    return (await this.#call('DELETE', path, cancelAnswerSchema)).note;
  }

  /** Has the disks pulled that a migration left behind, at this rate at the most, bit/s; null: no more. Answers how it is then. */
  pull(id: string, rateBps: number | null): Promise<MigrationView> {
    const path = `/v1/migrations/${encodeURIComponent(id)}/pull`;
    if (rateBps === null) return this.#call('DELETE', path, migrationViewSchema);
    return this.#call('POST', path, migrationViewSchema, { rate: rateBps });
  }

  policy(): Promise<PolicyView> {
    return this.#call('GET', '/v1/policy', policyViewSchema);
  }

  /** Changes fields by dotted path, all of them or none; `author` is kept in the history. */
  patchPolicy(patch: PolicyPatch, author = ''): Promise<PolicyView> {
    const headers = author === '' ? {} : { [AUTHOR_HEADER]: encodeURIComponent(author) };
    return this.#call('PATCH', '/v1/policy', policyViewSchema, patch, headers);
  }

  /** The last edits of the policy, accepted and refused, the newest first. */
  policyHistory(): Promise<PolicyHistory> {
    return this.#call('GET', '/v1/policy/history', policyHistorySchema);
  }

  /**
   * Reads the feed and hands each envelope to `onEnvelope` until `signal` aborts (then resolves). Rejects when the
   * connection is refused, lost or silent for longer than the timeout; whoever wants to go on calls again and gets a
   * fresh snapshot. An exception of `onEnvelope` ends the following and is passed on.
   */
  follow(topics: readonly Topic[], onEnvelope: (e: FeedEnvelope) => void, signal?: AbortSignal): Promise<void> {
    const query = topics.length > 0 ? `?topics=${topics.join(',')}` : '';
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return resolve();
      const socket = new WebSocket(`${this.url.replace(/^http/, 'ws')}/feed${query}`, {
        headers: { authorization: `Bearer ${this.#token}` },
        handshakeTimeout: this.#timeoutMs,
      });
      let ended = false;
      const end = (error?: unknown) => {
        if (ended) return;
        ended = true;
        clearTimeout(silence);
        signal?.removeEventListener('abort', stop);
        socket.terminate();
        if (error === undefined) resolve();
        else reject(error);
      };
      const stop = () => end();
      const silent = () =>
        end(new FairwayError('client.silent', `the feed of ${this.url} sent nothing for ${this.#timeoutMs} ms`, RETRY));
      let silence = setTimeout(silent, this.#timeoutMs);
      signal?.addEventListener('abort', stop);
      socket.on('message', (bytes) => {
        clearTimeout(silence);
        silence = setTimeout(silent, this.#timeoutMs);
        try {
          onEnvelope(readEnvelope(String(bytes)));
        } catch (error) {
          end(error);
        }
      });
      socket.on('unexpected-response', (_request, response) => {
        end(failure(response.statusCode ?? 0, undefined, this.url));
      });
      socket.on('error', (error) => end(this.#unreachable(error)));
      socket.on('close', (code, text) => {
        const why = text.length > 0 ? ` (${code}: ${text})` : ` (${code})`;
        end(new FairwayError('client.closed', `the controller at ${this.url} closed the feed${why}`, RETRY));
      });
    });
  }

  async #call<T>(
    method: string,
    path: string,
    schema: z.ZodType<T>,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<T> {
    const answer = schema.safeParse(await this.#request(method, path, body, headers));
    if (answer.success) return answer.data;
    throw new FairwayError(
      'client.unreadable',
      `${this.url} answered ${method} ${path} with something this version of fairway does not read: ` +
        `${describeIssues(answer.error)}. Use the same version on both sides`,
    );
  }

  async #request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<unknown> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: {
        ...headers,
        authorization: `Bearer ${this.#token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.any([AbortSignal.timeout(this.#timeoutMs), ...(this.#signal ? [this.#signal] : [])]),
    }).catch((error: unknown) => {
      throw this.#unreachable(error);
    });
    const json: unknown = await response.json().catch(() => undefined);
    if (!response.ok) throw failure(response.status, json, this.url);
    return json;
  }

  #unreachable(error: unknown): FairwayError {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const why = cause instanceof Error ? cause.message || ('code' in cause ? String(cause.code) : cause.name) : '';
    return new FairwayError(
      'client.unreachable',
      `no controller answers at ${this.url} (${why}); start one with \`fairway controller\` or name another with --url`,
      RETRY,
      error,
    );
  }
}

const RETRY: ErrorLabel[] = ['retryable'];

function readEnvelope(text: string): FeedEnvelope {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new FairwayError(
      'client.unreadable',
      `the feed sent a text that is not JSON: ${text.slice(0, 80)}`,
      [],
      error,
    );
  }
  const envelope = feedEnvelopeSchema.safeParse(json);
  if (envelope.success) return envelope.data;
  throw new FairwayError('client.unreadable', `the feed sent an unknown envelope: ${describeIssues(envelope.error)}`);
}

/** The error a refused request stands for; the body is `{ error: { code, message } }` where the controller wrote it. */
function failure(status: number, body: unknown, url: string): FairwayError {
  const said = typeof body === 'object' && body !== null && 'error' in body ? body.error : undefined;
  const text = (key: 'code' | 'message') =>
    typeof said === 'object' && said !== null && key in said
      ? String((said as Record<string, unknown>)[key])
      : undefined;
  const labels = LABELS[status] ?? [];
  // Of a token that is known there, the controller says what is the matter with it.
  if (labels.includes('unauthorized') && text('code')?.startsWith('TOKEN_')) {
    return new FairwayError('client.unauthorized', `the controller at ${url}: ${text('message')}`, labels);
  }
  if (labels.includes('unauthorized')) {
    return new FairwayError(
      'client.unauthorized',
      `the controller at ${url} refused the token; give the one in its token file with --token-file or FAIRWAY_TOKEN`,
      labels,
    );
  }
  return new FairwayError(
    text('code') ?? `http.${status}`,
    text('message') ?? `the controller at ${url} answered with status ${status}`,
    labels,
  );
}
