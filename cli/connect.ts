/** How commands find their controller: address, token, and following its feed across restarts. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { FairwayError } from '../contracts/common.ts';
import type { FeedEnvelope, Topic } from '../contracts/feed.ts';
import { FairwayClient } from './client.ts';
import type { Terminal } from './terminal.ts';

export interface ConnectOptions {
  url: string;
  tokenFile: string;
}

export function connect(terminal: Terminal, o: ConnectOptions): FairwayClient {
  if (!/^https?:\/\//.test(o.url)) {
    throw new FairwayError('cli.url', `--url ${o.url}: must be an address such as http://127.0.0.1:8653`, ['badInput']);
  }
  return new FairwayClient({ url: o.url, token: readToken(o.tokenFile, terminal.env), signal: terminal.signal });
}

/** The token others made: FAIRWAY_TOKEN, else the file's content. Only the controller makes one. */
export function readToken(file: string, env: Terminal['env']): string {
  const given = env.FAIRWAY_TOKEN;
  if (given) return given;
  let text = '';
  let why = 'it is empty';
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (error) {
    why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'it does not exist' : (error as Error).message;
  }
  if (text !== '') return text;
  throw new FairwayError(
    'cli.noToken',
    `no token: cannot use the file ${file} (${why}); give the controller's token file with --token-file (agents: ` +
      `tokenFile) or its content in FAIRWAY_TOKEN`,
    ['unauthorized'],
  );
}

/**
 * Follows the feed until the signal aborts, again and again: when the controller goes away, `onLost` is told and the
 * next try comes a second later. The first connection must succeed; what cannot get better by waiting is thrown.
 */
export async function followAgain(
  client: FairwayClient,
  topics: readonly Topic[],
  onEnvelope: (e: FeedEnvelope) => void,
  signal: AbortSignal,
  onLost: (why: string) => void,
): Promise<void> {
  let wasConnected = false;
  while (!signal.aborted) {
    try {
      await client.follow(
        topics,
        (e) => {
          wasConnected = true;
          onEnvelope(e);
        },
        signal,
      );
    } catch (error) {
      if (!wasConnected || !(error instanceof FairwayError) || !error.has('retryable')) throw error;
      onLost(error.message);
      await sleep(1000, undefined, { signal }).catch(() => {});
    }
  }
}
