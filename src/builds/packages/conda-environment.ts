// Renders conda packages as an environment file. Foreign YAML is parsed in a separate thread, one at a time, with limited time and memory.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import pLimit from 'p-limit';
import { stringify } from 'yaml';
import { RegistryError } from '../../oci/errors.ts';
import { InvalidBuild } from '../request.ts';
import { answerSchema, type EnvironmentAnswer, type EnvironmentQuestion } from './environment-thread.ts';
import { NO_NAMES, namesOfEntries, namesOfEnvironment, type PackageNames } from './names.ts';
import { decodeEnvironment, type PackagesRequest, quoteWord } from './request.ts';

export type CondaEnvironment =
  /** In the build context. Only kind `yaml` has channels and dependencies; a lock lists every file to install. */
  | {
      readonly kind: 'yaml' | 'lock' | 'pixi-lock';
      readonly file: string;
      readonly text: string;
      readonly names: PackageNames;
    }
  | { readonly kind: 'url'; readonly url: string; readonly names: PackageNames };

/** Without `ps`, workflow engines cannot monitor processes. */
export const DEFAULT_BASE_PACKAGES = ['conda-forge::procps-ng'] as const;

const DEFAULT_CHANNELS = ['conda-forge', 'bioconda'] as const;

/** `[channel::]name` with an optional constraint, as in conda's specs, or `pip:name` with one of pip's. */
const SPEC =
  /^(?:[A-Za-z0-9_./:@-]+::)?[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:\[[^\]]+\])?\s*(?:[=<>!~][A-Za-z0-9_.*+=<>!~,|\s-]*)?$/;

const CHANNEL = /^[A-Za-z0-9_][A-Za-z0-9_./:@-]*$/;

/** Without credentials: it is stored with the build. */
const URL_LINE = /^https?:\/\/[^\s"'\\@/]{1,300}(?:\/[^\s"'\\]{0,2000})?$/;

/** Throws InvalidBuild, and what `read` throws. */
export async function condaEnvironment(
  { environment, entries, channels }: PackagesRequest,
  read: ReadEnvironment,
): Promise<CondaEnvironment> {
  for (const [at, channel] of channels.entries()) {
    if (!CHANNEL.test(channel)) throw new InvalidBuild(`packages.channels[${at}]: ${quote(channel)} is not a channel`);
  }
  if (environment !== undefined) return fromText(decodeEnvironment(environment).trim(), channels, read);
  const [first = ''] = entries;
  if (entries.length === 1 && URL_LINE.test(first)) return { kind: 'url', url: first, names: namesOfEntries(entries) };
  const text = stringify(fromEntries(entries, channels));
  return { kind: 'yaml', file: 'conda.yml', text, names: namesOfEntries(entries) };
}

async function fromText(text: string, channels: readonly string[], read: ReadEnvironment): Promise<CondaEnvironment> {
  if (URL_LINE.test(text)) return { kind: 'url', url: text, names: NO_NAMES };
  if (/^@EXPLICIT\s*$/m.test(text)) return { kind: 'lock', file: 'conda-lock.txt', text: `${text}\n`, names: NO_NAMES };
  const answer = await read({ text, channels: [...channels] });
  if (answer.kind === 'lock') return { kind: 'lock', file: 'conda-lock.yml', text: `${text}\n`, names: NO_NAMES };
  if (answer.kind === 'pixi-lock') return { kind: 'pixi-lock', file: 'pixi.lock', text: `${text}\n`, names: NO_NAMES };
  return { kind: 'yaml', file: 'conda.yml', text: answer.text, names: namesOfEnvironment(answer) };
}

function fromEntries(entries: readonly string[], channels: readonly string[]) {
  const pip = entries.filter(isPip).map(entry => entry.slice('pip:'.length));
  for (const [at, entry] of entries.entries()) {
    if (!SPEC.test(isPip(entry) ? entry.slice('pip:'.length) : entry)) {
      throw new InvalidBuild(
        `packages.entries[${at}]: ${quote(entry)} is not a package; expected [channel::]name[=version]`,
      );
    }
  }
  return {
    channels: channels.length > 0 ? channels : DEFAULT_CHANNELS,
    dependencies: [...entries.filter(entry => !isPip(entry)), ...(pip.length > 0 ? ['pip', { pip }] : [])],
  };
}

function isPip(entry: string): boolean {
  return entry.startsWith('pip:') && !entry.startsWith('pip::');
}

/** Packages as the words of a shell command. Throws InvalidBuild. */
export function quoteSpecs(field: string, specs: readonly string[]): string {
  const bad = specs.find(spec => !SPEC.test(spec));
  if (bad !== undefined) throw new InvalidBuild(`packages.${field}: ${quote(bad)} is not a package`);
  return specs.map(quoteWord).join(' ');
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

/** Throws InvalidBuild for an invalid environment or one that is too expensive to parse, TOOMANYREQUESTS while too many wait. */
export type ReadEnvironment = (
  question: EnvironmentQuestion,
) => Promise<Exclude<EnvironmentAnswer, { readonly kind: 'fault' }>>;

interface EnvironmentLimits {
  readonly timeoutMs: number;
  readonly heapMib: number;
  readonly maxWaiting: number;
}

const LIMITS: EnvironmentLimits = { timeoutMs: 10_000, heapMib: 128, maxWaiting: 20 };

export function createReadEnvironment({ timeoutMs, heapMib, maxWaiting }: EnvironmentLimits = LIMITS): ReadEnvironment {
  const oneAtATime = pLimit(1);

  async function ask(question: EnvironmentQuestion): Promise<EnvironmentAnswer> {
    const worker = new Worker(new URL('./environment-thread.ts', import.meta.url), {
      workerData: question,
      resourceLimits: { maxOldGenerationSizeMb: heapMib },
    });
    // A thread may still fail while it is terminated: without a listener that would end the process.
    worker.on('error', () => undefined);
    try {
      const [answer] = await once(worker, 'message', { signal: AbortSignal.timeout(timeoutMs) });
      return answerSchema.parse(answer);
    } catch (cause) {
      throw new InvalidBuild(
        `packages.environment: YAML that cannot be read within ${timeoutMs / 1000} s and ${heapMib} MiB`,
        {
          cause,
        },
      );
    } finally {
      await worker.terminate();
    }
  }

  return async question => {
    if (oneAtATime.pendingCount >= maxWaiting) {
      throw new RegistryError('TOOMANYREQUESTS', 'too many environments are being parsed', { retryAfterSeconds: 5 });
    }
    const answer = await oneAtATime(() => ask(question));
    if (answer.kind === 'fault') throw new InvalidBuild(`packages.environment: ${answer.message}`);
    return answer;
  };
}
