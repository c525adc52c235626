/**
 * Cleans up after a run of tests that was interrupted: a program of its own that waits until the run has ended, however it did,
 * and then ends the processes and removes the network namespaces that it left. `buildOnce.mjs` starts it; after a run
 * that came to its end there is nothing to do.
 *
 * What is the run's: processes that have its mark in their environment, which children inherit; those that were seen below the
 * runner (some write their title over their environment); those in a mount namespace with such a process (machines of a
 * private libvirt have an environment of libvirt's making); and network namespaces that such
 * processes live in or that have the id of one of the run's test processes in their name.
 */
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Variable of the environment that marks a run's processes. */
const MARK = 'FW_TEST_RUN';
const LOOK_MS = 2000;
const NAMESPACES = '/run/netns';

const orNothing = (f, nothing) => {
  try {
    return f();
  } catch {
    return nothing;
  }
};
const pids = () => readdirSync('/proc').filter((name) => /^\d+$/.test(name));
const hasMark = (pid, mark) =>
  orNothing(() => readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`${MARK}=${mark}`), false);
const spaceOf = (pid, kind) => orNothing(() => readlinkSync(`/proc/${pid}/ns/${kind}`), '');
/** Parent and time of start of a process (proc_pid_stat(5), fields 4 and 22); the name before them may hold anything. */
const statOf = (pid) =>
  orNothing(() => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    return { parent: fields[1], started: fields[19] };
  }, undefined);
/**
 * Seen while the run goes on: its processes with their time of start, and named network namespaces that they lived in. Ids of
 * processes and numbers of namespaces are given out again, to other runs too: neither says anything without the other.
 */
const seen = { processes: new Map(), nets: new Set() };
/** Whether a process that lives now is the one that was seen. */
const isSeen = (pid) => seen.processes.has(pid) && seen.processes.get(pid) === statOf(pid)?.started;
const numberOf = (name) => `net:[${orNothing(() => statSync(`${NAMESPACES}/${name}`).ino, 0)}]`;
const named = () => orNothing(() => readdirSync(NAMESPACES), []);

/** All processes below one. */
function below(root) {
  const parents = new Map(pids().map((pid) => [pid, statOf(pid)?.parent]));
  const isBelow = (pid) => {
    for (let p = parents.get(pid), steps = 0; p !== undefined && steps < 100; p = parents.get(p), steps++) {
      if (p === root) return true;
    }
    return false;
  };
  return [...parents.keys()].filter(isBelow);
}

function look(mark, runner) {
  const [ownMount, ownNet] = [spaceOf('self', 'mnt'), spaceOf('self', 'net')];
  const found = new Set(pids().filter((pid) => isSeen(pid) || hasMark(pid, mark)));
  for (const pid of runner === undefined ? [] : below(runner)) found.add(pid);
  found.delete(String(process.pid));
  const spaces = (kind, own) =>
    new Set([...found].map((pid) => spaceOf(pid, kind)).filter((s) => s !== '' && s !== own));
  const mounts = spaces('mnt', ownMount);
  for (const pid of pids()) if (mounts.has(spaceOf(pid, 'mnt'))) found.add(pid);
  for (const pid of found) seen.processes.set(pid, statOf(pid)?.started);
  const nets = spaces('net', ownNet);
  for (const name of named()) if (nets.has(numberOf(name))) seen.nets.add(`${name} ${numberOf(name)}`);
  return [...found];
}

/** Named namespaces of the run, in which nobody lives any more. */
function namespaces() {
  const isOurs = (name) =>
    seen.nets.has(`${name} ${numberOf(name)}`) ||
    (name.match(/\d+/g) ?? []).some((n) => seen.processes.has(n) && (statOf(n) === undefined || isSeen(n)));
  const inhabited = new Set(pids().map((pid) => spaceOf(pid, 'net')));
  return named().filter((name) => isOurs(name) && !inhabited.has(numberOf(name)));
}

async function buryAll(mark) {
  const ended = [];
  // Some are started anew by others when they end.
  for (let round = 0; round < 10; round++) {
    const left = look(mark);
    if (left.length === 0) break;
    for (const pid of left) orNothing(() => process.kill(Number(pid), 'SIGKILL'));
    ended.push(...left);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const removed = namespaces();
  for (const name of removed) orNothing(() => execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' }));
  const what = [
    ...(ended.length === 0 ? [] : [`${new Set(ended).size} processes`]),
    ...(removed.length === 0 ? [] : [`the network namespaces ${removed.join(', ')}`]),
  ];
  if (what.length > 0) process.stderr.write(`the tests left ${what.join(' and ')} behind: cleaned up\n`);
}

/** Marks this process and its children to come, and starts the undertaker, which waits for the end of its input. */
export default function callUndertaker() {
  if (process.platform !== 'linux' || process.env[MARK] !== undefined) return;
  const mark = `${process.pid}-${Date.now()}`;
  process.env[MARK] = mark;
  const { [MARK]: _, ...env } = process.env;
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), mark, String(process.pid)], {
    detached: true,
    env,
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  // The run does not wait for it; its input ends with the run.
  child.unref();
  child.stdin.unref();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , mark = '', runner = ''] = process.argv;
  // An interrupt of the run, by its terminal or whoever ends the group, is what this is here for.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {});
  const timer = setInterval(() => look(mark, runner), LOOK_MS);
  process.stdin.resume().on('close', () => {
    clearInterval(timer);
    // Namespaces are named after it where there are no other test processes; ended, it is nothing to be ended.
    seen.processes.set(runner, '');
    void buryAll(mark);
  });
}
