/** From what was thrown to what a person reads and the exit status a program reads. */
import { FairwayError } from '../contracts/common.ts';
import { EXIT, type Terminal } from './terminal.ts';

/** Message (one cause, one cure, never a token) and exit status of an error. */
export function explain(
  error: unknown,
  { env, signal }: Pick<Terminal, 'env' | 'signal'>,
): { message: string; exit: number } {
  // Whatever broke off when the signal came broke off because of it.
  if (signal.aborted) {
    const isSaid = error instanceof FairwayError && error.code.endsWith('.interrupted');
    return { message: isSaid ? error.message : 'interrupted', exit: EXIT.interrupted };
  }
  const text = messageOf(error);
  const message = env.FAIRWAY_TOKEN ? text.replaceAll(env.FAIRWAY_TOKEN, '<token>') : text;
  return { message, exit: exitOf(error) };
}

function messageOf(error: unknown): string {
  if (error instanceof FairwayError) return error.message;
  // Not one of ours, so not foreseen: the place it came from is worth more than brevity.
  if (error instanceof Error) return error.stack ?? error.message;
  return String(error);
}

function exitOf(error: unknown): number {
  if (!(error instanceof FairwayError)) return EXIT.failed;
  if (error.has('badInput') || error.has('notFound')) return EXIT.usage;
  if (error.has('unauthorized')) return EXIT.unreachable;
  return error.code.startsWith('client.') && error.has('retryable') ? EXIT.unreachable : EXIT.failed;
}
