// The configuration: flags over environment over file over defaults, checked as a whole before anything starts.
import { LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { type Config, configSchema } from './config/schema.ts';
import { type Environment, readText } from './config/values.ts';

/** Something is wrong with the configuration; `faults` names every fault with its place. No fault quotes a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`invalid configuration:\n${faults.map(fault => `  ${fault}`).join('\n')}`);
    this.faults = faults;
  }
}

export interface ConfigSources {
  /** The file to read where neither flag nor environment names one; without it ./veneer.yaml, if there is one. */
  readonly file?: string | undefined;
  readonly env: Environment;
  readonly flags: {
    readonly listen?: string | undefined;
    readonly dataDir?: string | undefined;
    readonly config?: string | undefined;
  };
}

const DEFAULT_FILE = 'veneer.yaml';

/** A value from outside the file, the key that it takes the place of, and how its source is named in a fault. */
interface Override {
  readonly path: readonly [string] | readonly [string, string];
  readonly source: string;
  readonly value: string;
}

/** Reads, checks and deeply freezes the configuration. Throws ConfigError with every fault. */
export function loadConfig(sources: ConfigSources): Config {
  const overrides = findOverrides(sources);
  const content = readFile(findNamedFile(sources));
  const parsed = configSchema(sources.env).safeParse(applyOverrides(content, overrides), { error: tellMissing });
  if (!parsed.success) throw new ConfigError(parsed.error.issues.flatMap(issue => describe(issue, overrides)));
  return freeze(parsed.data);
}

/** Where the file is, whether it is there or not. */
export function findConfigFile(sources: ConfigSources): string {
  return findNamedFile(sources) ?? DEFAULT_FILE;
}

function findNamedFile({ flags, env, file }: ConfigSources): string | undefined {
  return flags.config ?? (env.VENEER_CONFIG || file);
}

function readFile(named: string | undefined): unknown {
  const path = named ?? DEFAULT_FILE;
  const text = readText(path);
  if (typeof text === 'string') return parseYaml(text, path);
  if (text.isMissing && named === undefined) return {};
  throw new ConfigError([text.fault]);
}

/** As much as a ConfigMap holds. While a file is parsed, nobody is served. */
const MAX_CHARACTERS = 1024 * 1024;

function parseYaml(text: string, path: string): unknown {
  if (text.length > MAX_CHARACTERS) throw new ConfigError([`${path}: more than ${MAX_CHARACTERS} characters`]);
  const lineCounter = new LineCounter();
  // Pretty errors quote the line, which may hold a password.
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map(({ pos, message }) => `${path}:${lineCounter.linePos(pos[0]).line}: ${message}`),
    );
  }
  try {
    return document.toJS() ?? {};
  } catch (cause) {
    // An alias without its anchor, or too many of them: the library finds out only here.
    if (cause instanceof ReferenceError) throw new ConfigError([`${path}: ${cause.message}`]);
    throw cause;
  }
}

function findOverrides({ env, flags }: ConfigSources): readonly Override[] {
  const candidates = [
    { path: ['listen'], source: 'VENEER_LISTEN', value: env.VENEER_LISTEN || undefined },
    { path: ['dataDir'], source: 'VENEER_DATA_DIR', value: env.VENEER_DATA_DIR || undefined },
    { path: ['log', 'level'], source: 'VENEER_LOG', value: env.VENEER_LOG || undefined },
    { path: ['listen'], source: '--listen', value: flags.listen },
    { path: ['dataDir'], source: '--data-dir', value: flags.dataDir },
  ] as const;
  return candidates.flatMap(({ path, source, value }) => (value === undefined ? [] : [{ path, source, value }]));
}

/** A later override wins. */
function applyOverrides(content: unknown, overrides: readonly Override[]): unknown {
  let result = content;
  for (const override of overrides) result = applyOverride(result, override);
  return result;
}

/** What is no mapping stays as it is, so that the schema can say so. */
function applyOverride(content: unknown, { path: [key, inner], value }: Override): unknown {
  if (!isMapping(content)) return content;
  if (inner === undefined) return { ...content, [key]: value };
  const section = content[key] ?? {};
  return isMapping(section) ? { ...content, [key]: { ...section, [inner]: value } } : content;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** zod would say that it expected a type and received undefined; all other words are its own. */
function tellMissing({ input }: z.core.$ZodRawIssue): string | undefined {
  return input === undefined ? 'must be given' : undefined;
}

function describe(issue: z.core.$ZodIssue, overrides: readonly Override[]): readonly string[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(key => `${formatPath([...issue.path, key])}: unknown key`);
  }
  const place = formatPath(issue.path);
  const source = overrides.findLast(({ path }) => formatPath(path) === place)?.source;
  return [`${source ?? (place || 'the file')}: ${issue.message}`];
}

/** `upstreams.lab.url`, and `upstreams["docker.io"].url` where a key has other characters than a word's. */
function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((place, key) => {
    const word = String(key);
    if (!/^[\w-]+$/.test(word)) return `${place}[${JSON.stringify(word)}]`;
    return place ? `${place}.${word}` : word;
  }, '');
}

function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const inner of Object.values(value)) freeze(inner);
  return value;
}
