/**
 * `virsh` as a client of libvirt: one process for a command, one that listens to events. `core/libvirt.ts` reads what it prints;
 * docs/adr says why this program and not libvirt's own wire.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { FairwayError } from '../../contracts/common.ts';

export interface Virsh {
  /**
   * Runs a command and answers what it printed.
   *
   * @throws FairwayError `libvirt-missing`, `libvirt-unreachable` (retryable), `libvirt-permission`, `guest-unknown`, or
   *   `libvirt-refused` with what libvirt said.
   */
  run(args: readonly string[], timeoutMs?: number): Promise<string>;
  /** Several commands by one process; the answers in order. A refused one refuses all. */
  runAll(commands: readonly (readonly string[])[]): Promise<string[]>;
  /** Starts a process that outlives this one; its output and, at its end, its exit status go to files. */
  detach(args: readonly string[], outFile: string, statusFile: string): ChildProcess;
  /** Listens to events; `onEnd` once when the process is gone. */
  listen(onText: (text: string) => void, onEnd: (why: string) => void): ChildProcess;
}

const SEPARATOR = '=fairway=';
/** Messages are looked at: they must be in English. */
const ENVIRONMENT = { ...process.env, LC_ALL: 'C' };

/** What a failed virsh means. */
export function virshError(
  uri: string,
  program: string,
  error: { code?: unknown; message: string },
  said: string,
): FairwayError {
  const text = said.trim().replace(/^error: /gm, '') || error.message;
  if (error.code === 'ENOENT') {
    return new FairwayError(
      'libvirt-missing',
      `${program} is not installed (Debian: apt-get install libvirt-clients)`,
      ['notFound'],
    );
  }
  if (/authentication (failed|unavailable|cancelled)|Permission denied|access denied|no polkit agent/i.test(text)) {
    const cure = 'run the agent as root, or as a member of the group libvirt';
    return new FairwayError('libvirt-permission', `${uri} lets this agent do nothing: ${text}; ${cure}`, [
      'unauthorized',
    ]);
  }
  if (
    /failed to connect to the hypervisor|Failed to connect socket|Connection refused|Connection reset|unable to connect to server|Cannot recv data|client socket is closed/i.test(
      text,
    )
  ) {
    const cure = 'is libvirtd (or virtqemud) running there?';
    return new FairwayError('libvirt-unreachable', `cannot reach libvirt at ${uri}: ${text}; ${cure}`, ['retryable']);
  }
  if (/failed to get domain|Domain not found|no domain with matching/i.test(text)) {
    return new FairwayError('guest-unknown', `libvirt at ${uri}: ${text}`, ['notFound']);
  }
  return new FairwayError('libvirt-refused', text);
}

/** @param uri libvirt's connection URI, e.g. `qemu:///system` */
export function createVirsh(uri: string, program = 'virsh'): Virsh {
  const whole = (args: readonly string[]): string[] => ['--quiet', '--connect', uri, ...args];
  function run(args: readonly string[], timeoutMs = 30_000): Promise<string> {
    return new Promise((resolve, reject) => {
      const options = { env: ENVIRONMENT, timeout: timeoutMs, maxBuffer: 16 * 1024 * 1024 };
      execFile(program, whole(args), options, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(virshError(uri, program, error, stderr));
      });
    });
  }
  return {
    run,
    async runAll(commands) {
      // One argument is a script to virsh: names are letters, digits and _ . - only (nameSchema), so nothing needs quoting.
      const text = await run([commands.map((c) => c.join(' ')).join(`; echo ${SEPARATOR}; `)]);
      return text.split(SEPARATOR).map((part) => part.trim());
    },
    detach(args, outFile, statusFile) {
      const script = 'out=$1 status=$2; shift 2; "$@" >"$out" 2>&1; echo $? >"$status.new"; mv "$status.new" "$status"';
      const child = spawn('sh', ['-c', script, 'sh', outFile, statusFile, program, ...whole(args)], {
        detached: true,
        stdio: 'ignore',
        env: ENVIRONMENT,
      });
      child.unref();
      return child;
    },
    listen(onText, onEnd) {
      const child = spawn(program, whole(['event', '--all', '--loop', '--timestamp']), {
        env: ENVIRONMENT,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let said = '';
      let ended = false;
      const end = (why: string): void => {
        if (!ended) onEnd(why);
        ended = true;
      };
      child.stdout.on('data', (data) => onText(String(data)));
      child.stderr.on('data', (data) => {
        said = `${said}${String(data)}`.slice(-2000);
      });
      child.once('error', (error) => end(error.message));
      child.once('exit', () => end(said.trim() || 'it ended'));
      return child;
    },
  };
}
