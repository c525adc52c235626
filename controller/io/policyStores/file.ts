/**
 * The policy kept in a YAML file that people edit. The file is looked at several times a second; an edit that is not
 * valid leaves the last good document in force and its reason in `<file>.status` (JSON), which also keeps that last
 * good document, so that a restart during a broken edit does not fall back to the defaults. The last edits are in
 * `<file>.history`, one JSON object a line, the newest last. `yaml.ts` reads the text. See `store.ts`.
 */
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Document, isMap, stringify } from 'yaml';
import type { Clock } from '../../../contracts/clock.ts';
import { FairwayError } from '../../../contracts/common.ts';
import type { Log } from '../../../contracts/log.ts';
import {
  DEFAULT_POLICY,
  type PolicyChange,
  type PolicyDocument,
  type PolicyEdit,
  type PolicyStatus,
  policyEditSchema,
} from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import { splitPath } from '../../../policies/index.ts';
import {
  changesBetween,
  changesOf,
  type EditOrigin,
  fieldOf,
  type OnPolicyChange,
  type OnPolicyRefused,
  type PolicyCodec,
  PolicyInForce,
  type PolicyStore,
  refusalText,
  WorkQueue,
} from './store.ts';
import { type PolicyText, readPolicyText } from './yaml.ts';

const MAX_BYTES = 1024 * 1024; // What is read at all; `yaml.ts` wants less.
const MAX_ATTEMPTS = 4;

const header = (file: string): string =>
  `# Fairway's policy: every number and rule its decisions obey. Edits take effect while migrations run, within a second.
# An edit that is not valid changes nothing; why is then in ${file}.status
# Rates are "100 Mbit/s" or bit/s, limits may also be shares ("50 %"), times are ms, shares are 0-1.
`;

type Signature = string;
const GONE: Signature = 'gone';

export class FilePolicyStore implements PolicyStore {
  readonly kind = 'file';
  readonly #file: string;
  readonly #codec: PolicyCodec;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #pollMs: number;
  readonly #inForce: PolicyInForce;
  readonly #queue = new WorkQueue();
  #isReadable = true;
  #loaded: Signature = GONE;
  #candidate: Signature | undefined;
  #stopPolling: (() => void) | undefined;

  /** `pollMs`: how often the file is looked at; an edit is taken at the second look that finds it unchanged. */
  constructor(o: { file: string; codec: PolicyCodec; clock: Clock; log: Log; pollMs?: number }) {
    this.#file = o.file;
    this.#codec = o.codec;
    this.#clock = o.clock;
    this.#log = o.log;
    this.#pollMs = o.pollMs ?? 200;
    this.#inForce = new PolicyInForce(o.codec, o.clock, o.log);
  }

  /** False while the file cannot be read. */
  get connected(): boolean {
    return this.#isReadable;
  }

  /** Throws FairwayError `POLICY_FILE` when there is no file and none can be made. */
  async start(
    onChange: OnPolicyChange,
    onRefused: OnPolicyRefused,
  ): Promise<{ doc: PolicyDocument; status: PolicyStatus }> {
    await this.#queue.run(async () => {
      const before = await this.#readStatus();
      if (before) this.#inForce.restore(before.doc ?? DEFAULT_POLICY, before.revision);
      this.#inForce.restoreHistory(await this.#readHistory());
      if ((await this.#signature()) === GONE) {
        await this.#write(this.#file, header(this.#file) + stringify(DEFAULT_POLICY));
      }
      await this.#load(true);
    });
    this.#inForce.watch(onChange, onRefused);
    this.#stopPolling = this.#clock.every(this.#pollMs, () => {
      if (this.#queue.length > 0) return;
      this.#queue
        .run(() => this.#poll())
        .catch((e: Error) => {
          if (this.#isReadable) this.#log('error', 'policy.file-trouble', { file: this.#file, error: e.message });
          this.#isReadable = false;
        });
    });
    return { doc: this.#inForce.doc, status: this.#inForce.status };
  }

  patch(fields: PolicyPatch, author = ''): Promise<PolicyStatus> {
    const origin = { author, via: 'http' } as const;
    return this.#queue.run(async () => {
      for (let attempt = 1; ; attempt++) {
        const signature = await this.#signature();
        const text = signature === GONE ? header(this.#file) + stringify(this.#inForce.doc) : await this.#readText();
        let yaml: Document.Parsed;
        let result: PolicyDocument;
        try {
          const read = readPolicyText(text);
          yaml = read.yaml;
          // On top of the file, so that an edit just made by hand is kept; of the document in force where that is broken.
          const kept = this.#tryParse(read);
          const base = kept ?? this.#inForce.doc;
          const next = this.#patched(base, fields);
          const paths = [...changedPaths(base, next), ...(kept ? [] : Object.keys(fields).map(splitPath))];
          for (const path of paths) setPath(yaml, path, next);
          result = this.#codec.parse(readPolicyText(yaml.toString()).value);
        } catch (e) {
          if (e instanceof PatchRefused) {
            this.#inForce.noteRefusal(
              refusalText(e.cause),
              origin,
              changesOf(this.#codec.flatten(this.#inForce.doc), fields),
            );
            await this.#writeHistory();
            throw e.cause;
          }
          throw this.#conflict(refusalText(e));
        }
        if ((await this.#signature()) !== signature) {
          if (attempt < MAX_ATTEMPTS) continue;
          throw this.#conflict('it changes all the time');
        }
        await this.#write(this.#file, yaml.toString());
        this.#loaded = await this.#signature();
        this.#candidate = undefined;
        if (this.#inForce.accept(result, origin)) await this.#writeHistory();
        await this.#writeStatus();
        return this.#inForce.status;
      }
    });
  }

  history(): readonly PolicyEdit[] {
    return this.#inForce.history;
  }

  async close(): Promise<void> {
    this.#stopPolling?.();
    await this.#queue.idle();
  }

  #conflict(why: string): FairwayError {
    return new FairwayError(
      'POLICY_CONFLICT',
      `the policy file ${this.#file} holds an edit that was refused (${why}); correct or undo it first`,
      ['conflict'],
    );
  }

  /** What a mistake in the patch itself says must not be taken for a mistake in the file. */
  #patched(base: PolicyDocument, fields: PolicyPatch): PolicyDocument {
    try {
      return this.#codec.patch(base, fields);
    } catch (e) {
      throw new PatchRefused('the patch is not valid', { cause: e });
    }
  }

  #tryParse({ value }: PolicyText): PolicyDocument | undefined {
    try {
      return this.#codec.parse(value);
    } catch (e) {
      refusalText(e);
      return undefined;
    }
  }

  async #poll(): Promise<void> {
    const now = await this.#signature();
    if (now === this.#loaded && this.#isReadable) {
      this.#candidate = undefined;
      return;
    }
    // An editor may be half way through writing: only what two looks find the same is read.
    if (now !== this.#candidate) {
      this.#candidate = now;
      return;
    }
    await this.#load(false);
  }

  async #load(isStart: boolean): Promise<void> {
    const signature = await this.#signature();
    const origin: EditOrigin = { author: await this.#owner(), via: 'file' };
    let refusal: string | undefined;
    let value: unknown;
    let edit: PolicyEdit | undefined;
    try {
      if (signature === GONE) throw invalid(`(document): ${this.#file} is gone`);
      ({ value } = readPolicyText(await this.#readText()));
      edit = this.#inForce.accept(this.#codec.parse(value), origin);
    } catch (e) {
      refusal = refusalText(e);
      edit = this.#inForce.refuse(refusal, origin, this.#attempted(value));
    }
    if (edit) await this.#writeHistory();
    if (refusal !== undefined) {
      this.#log('warn', 'policy.refused', { file: this.#file, reason: refusal });
    } else {
      this.#log('info', 'policy.accepted', { file: this.#file, revision: this.#inForce.status.revision, isStart });
    }
    this.#isReadable = true;
    this.#loaded = signature;
    this.#candidate = undefined;
    await this.#writeStatus();
  }

  /** What a refused text would have changed, as far as it can be told. */
  #attempted(value: unknown): PolicyChange[] {
    if (!isTree(value)) return [];
    return changesBetween(this.#codec.flatten(this.#inForce.doc), this.#codec.flatten(value as PolicyDocument));
  }

  /** Whose file it is: the best guess at who wrote it. */
  async #owner(): Promise<string> {
    const owner = await stat(this.#file).catch(() => undefined);
    if (owner === undefined) return '';
    const self = userInfo();
    return owner.uid === self.uid ? self.username : `uid ${owner.uid}`;
  }

  async #readText(): Promise<string> {
    const h = await open(this.#file, constants.O_RDONLY);
    try {
      const { size } = await h.stat();
      if (size > MAX_BYTES) throw invalid(`(document): ${size} bytes; at most ${MAX_BYTES} are read`);
      return await h.readFile('utf8');
    } finally {
      await h.close();
    }
  }

  /** Changes whenever the file was written or replaced. */
  async #signature(): Promise<Signature> {
    try {
      const s = await stat(this.#file, { bigint: true });
      return `${s.ino} ${s.size} ${s.mtimeNs} ${s.ctimeNs}`;
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code === 'ENOENT') return GONE;
      throw e;
    }
  }

  async #readStatus(): Promise<{ doc: PolicyDocument | undefined; revision: number } | undefined> {
    try {
      const kept = JSON.parse(await readFile(`${this.#file}.status`, 'utf8')) as {
        revision?: unknown;
        inForce?: unknown;
      };
      return {
        doc: this.#tryKept(kept.inForce),
        revision: Number.isInteger(kept.revision) ? Number(kept.revision) : 0,
      };
    } catch {
      // Absent, or not ours: the file alone tells.
      return undefined;
    }
  }

  #tryKept(value: unknown): PolicyDocument | undefined {
    try {
      return this.#codec.parse(value);
    } catch (e) {
      refusalText(e);
      return undefined;
    }
  }

  async #readHistory(): Promise<PolicyEdit[]> {
    const text = await readFile(`${this.#file}.history`, 'utf8').catch(() => '');
    const edits = text.split('\n').flatMap((line) => {
      try {
        const edit = policyEditSchema.safeParse(JSON.parse(line));
        return edit.success ? [edit.data] : [];
      } catch {
        // The last line of all is empty; one that somebody wrote into it is nobody's edit.
        return [];
      }
    });
    return edits.reverse();
  }

  async #writeHistory(): Promise<void> {
    const lines = [...this.#inForce.history].reverse().map((e) => `${JSON.stringify(e)}\n`);
    await this.#writeAside(`${this.#file}.history`, lines.join(''));
  }

  async #writeStatus(): Promise<void> {
    const s = this.#inForce.status;
    const text = { ...s, field: fieldOf(s.reason), at: new Date(s.atMs).toISOString(), inForce: this.#inForce.doc };
    await this.#writeAside(`${this.#file}.status`, `${JSON.stringify(text, null, 2)}\n`);
  }

  /** Writes what is told beside the policy; that it cannot be told does not undo the edit. */
  async #writeAside(path: string, text: string): Promise<void> {
    try {
      await this.#write(path, text);
    } catch (e) {
      this.#log('warn', 'policy.status-not-written', { file: path, error: (e as Error).message });
    }
  }

  /** Replaces a file as a whole: readers see the old or the new content. A link is followed, mode and owner are kept. */
  async #write(path: string, text: string): Promise<void> {
    let h: FileHandle | undefined;
    let aside: string | undefined;
    try {
      const target = await realpath(path).catch(() => path);
      const old: BigIntStats | undefined = await stat(target, { bigint: true }).catch(() => undefined);
      aside = `${target}.${process.pid}.new`;
      h = await open(aside, 'w', old ? Number(old.mode & 0o777n) : 0o644);
      if (old) {
        await h.chmod(Number(old.mode & 0o777n));
        // Only root may give files away; anyone else owns what they wrote.
        await h.chown(Number(old.uid), Number(old.gid)).catch(() => undefined);
      }
      await h.writeFile(text);
      await h.sync();
      await h.close();
      h = undefined;
      await rename(aside, target);
      const folder = await open(dirname(target), 'r');
      await folder.sync().finally(() => folder.close());
    } catch (e) {
      await h?.close();
      if (aside !== undefined) await rm(aside, { force: true });
      throw new FairwayError('POLICY_FILE', `policy file ${path}: ${(e as Error).message}`, ['retryable'], e);
    }
  }
}

class PatchRefused extends Error {}

const invalid = (reason: string): FairwayError => new FairwayError('POLICY_INVALID', reason, ['badInput']);

const isTree = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

/** The keys that lead to the smallest parts in which two documents differ. */
function changedPaths(a: unknown, b: unknown, keys: readonly string[] = []): (readonly string[])[] {
  if (isDeepStrictEqual(a, b)) return [];
  if (!isTree(a) || !isTree(b)) return [keys];
  const all = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...all].flatMap((k) => changedPaths(a[k], b[k], [...keys, k]));
}

/** Makes one part of the YAML text say what `doc` says there; comments around it stay. */
function setPath(yaml: Document.Parsed, path: readonly string[], doc: PolicyDocument): void {
  let value: unknown = doc;
  for (const key of path) value = isTree(value) && Object.hasOwn(value, key) ? value[key] : undefined;
  if (value === undefined) {
    if (yaml.hasIn(path)) yaml.deleteIn(path);
    return;
  }
  for (let depth = 0; depth < path.length; depth++) {
    const parent = depth === 0 ? yaml.contents : yaml.getIn(path.slice(0, depth), true);
    if (parent !== undefined && parent !== null && !isMap(parent)) {
      throw invalid(`${path.slice(0, depth).join('.') || '(document)'}: must hold fields`);
    }
  }
  yaml.setIn(path, isTree(value) || Array.isArray(value) ? yaml.createNode(value) : value);
}
