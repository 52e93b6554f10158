// The configuration: flags over environment over file over defaults, checked as a whole before anything starts.
import { ConfigError, describeIssue, describeRawIssue, type Fault, formatPath } from './faults.ts';
import { type Config, configSchema } from './schema.ts';
import { dropEmpty, isMapping } from './shape.ts';
import { type Environment, readText } from './values.ts';
import { parseYaml } from './yaml-file.ts';

interface ConfigSources {
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

/** Reads, checks and deeply freezes the configuration. Throws ConfigError with every fault, in the order of the file. */
export function loadConfig(sources: ConfigSources): Config {
  const overrides = findOverrides(sources);
  const file = readFile(findNamedFile(sources));
  const schema = configSchema(sources.env);
  const parsed = schema.safeParse(applyOverrides(dropEmpty(schema, file.content), overrides), {
    error: describeRawIssue,
  });
  if (parsed.success) return freeze(parsed.data);
  const faults = parsed.error.issues.flatMap(issue => describeIssue(issue, schema));
  throw new ConfigError(
    faults
      .map(fault => place(fault, file, overrides))
      .toSorted(byLine)
      .map(({ text }) => text),
  );
}

/** Where the file is, whether it is there or not. */
export function findConfigFile(sources: ConfigSources): string {
  return findNamedFile(sources) ?? DEFAULT_FILE;
}

function findNamedFile({ flags, env, file }: ConfigSources): string | undefined {
  return flags.config ?? (env.VENEER_CONFIG || file);
}

/** What is in the file, and where. */
interface ReadFile {
  readonly content: unknown;
  /** `veneer.yaml`, and the line of a key in it; undefined where there is no file. */
  readonly path?: string;
  readonly lineOf?: (path: readonly PropertyKey[]) => number;
}

function readFile(named: string | undefined): ReadFile {
  const path = named ?? DEFAULT_FILE;
  const text = readText(path);
  if (typeof text === 'string') return { path, ...parseYaml(text, path) };
  if (text.isMissing && named === undefined) return { content: {} };
  throw new ConfigError([text.fault]);
}

interface PlacedFault {
  readonly line: number;
  readonly text: string;
}

function place({ path, message }: Fault, file: ReadFile, overrides: readonly Override[]): PlacedFault {
  const key = formatPath(path);
  const source = overrides.findLast(each => formatPath(each.path) === key)?.source;
  if (source) return { line: 0, text: `${source}: ${message}` };
  const line = file.lineOf?.(path) ?? 0;
  const where = file.path === undefined ? [] : [`${file.path}:${line}`];
  return { line, text: [...where, ...(key ? [key] : []), message].join(': ') };
}

function byLine(a: PlacedFault, b: PlacedFault): number {
  return a.line - b.line;
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

function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const inner of Object.values(value)) freeze(inner);
  return value;
}
