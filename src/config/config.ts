// The configuration: flags over environment over file over defaults, checked as a whole before anything starts.
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { ConfigError, type ConfigFault, describeIssue, describeRawIssue, formatPath } from './faults.ts';
import { type Config, configSchema } from './schema.ts';
import { dropEmpty, isMapping } from './shape.ts';
import { type Environment, readText } from './values.ts';

export interface ConfigSources {
  /** The file to read if neither flag nor environment names one; default: ./veneer.yaml, if it exists. */
  readonly file?: string | undefined;
  readonly env: Environment;
  readonly flags: {
    readonly listen?: string | undefined;
    readonly dataDir?: string | undefined;
    readonly config?: string | undefined;
  };
}

const DEFAULT_FILE = 'veneer.yaml';

/** A value from outside the file, the key that it overrides, and the name of its source in errors. */
interface Override {
  readonly path: readonly [string] | readonly [string, string];
  readonly source: string;
  readonly value: string;
}

/**
 * Reads, validates and deeply freezes the configuration. Throws ConfigError with all errors, in the order of the file.
 */
export function loadConfig(sources: ConfigSources): Config {
  const { content, schema, sourceOf } = readGiven(sources);
  // Compiling a schema only pays off if it is used more than once.
  const parsed = schema.safeParse(content, { error: describeRawIssue, jitless: true });
  if (parsed.success) return freeze(parsed.data);
  const faults = parsed.error.issues.flatMap(issue => describeIssue(issue, schema));
  throw new ConfigError(
    faults.map(({ path, message }) => ({ ...sourceOf(path), key: formatPath(path), message })).toSorted(byLine),
  );
}

/** What was configured, from all sources, unvalidated. */
interface Given {
  readonly content: unknown;
  readonly schema: ReturnType<typeof configSchema>;
  /** The source of a key, or of its nearest configured ancestor. */
  readonly sourceOf: (path: readonly PropertyKey[]) => KeySource;
}

/** A flag, an environment variable or a position in the file; nothing where there is no file. */
export type KeySource = Pick<ConfigFault, 'source' | 'file' | 'line'>;

/** Throws ConfigError for a file that cannot be read, or is not YAML. */
export function readGiven(sources: ConfigSources): Given {
  const overrides = findOverrides(sources);
  const file = readFile(findNamedFile(sources));
  const schema = schemaFor(sources.env);
  return {
    content: applyOverrides(dropEmpty(schema, file.content), overrides),
    schema,
    sourceOf(path) {
      const key = formatPath(path);
      const source = overrides.findLast(each => formatPath(each.path) === key)?.source;
      if (source !== undefined) return { source };
      return file.path === undefined ? {} : { file: file.path, line: file.lineOf?.(path) };
    },
  };
}

/** Creating a schema takes much longer than validating with it, and the file is reread when it changes. */
const schemas = new WeakMap<Environment, ReturnType<typeof configSchema>>();

function schemaFor(env: Environment): ReturnType<typeof configSchema> {
  const schema = schemas.get(env) ?? configSchema(env);
  schemas.set(env, schema);
  return schema;
}

/** The path of the file, whether or not it exists. */
export function findConfigFile(sources: ConfigSources): string {
  return findNamedFile(sources) ?? DEFAULT_FILE;
}

function findNamedFile({ flags, env, file }: ConfigSources): string | undefined {
  return flags.config ?? (env.VENEER_CONFIG || file);
}

/** The file's content, with positions. */
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
  throw new ConfigError([{ message: text.fault }]);
}

function byLine({ line: a = 0 }: ConfigFault, { line: b = 0 }: ConfigFault): number {
  return a - b;
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

/** Later overrides win. */
function applyOverrides(content: unknown, overrides: readonly Override[]): unknown {
  let result = content;
  for (const override of overrides) result = applyOverride(result, override);
  return result;
}

/** Anything but a mapping is left alone, so that the schema can report it. */
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

// The configuration file: its YAML, and the line of each key.

interface YamlFile {
  readonly content: unknown;
  /** The line of a key, or of its nearest ancestor that exists; starting at 1. */
  lineOf(path: readonly PropertyKey[]): number;
}

/** The size limit of a ConfigMap. No requests are served while a file is parsed. */
const MAX_CHARACTERS = 1024 * 1024;

/** `path` is for messages. Throws ConfigError for invalid YAML, each error with its line. */
function parseYaml(text: string, path: string): YamlFile {
  if (text.length > MAX_CHARACTERS) {
    throw new ConfigError([{ file: path, message: `more than ${MAX_CHARACTERS} characters` }]);
  }
  const lineCounter = new LineCounter();
  const lineAt = (offset: number) => lineCounter.linePos(offset).line;
  // Pretty errors quote the line, which may contain a password.
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  if (document.errors.length > 0) {
    throw new ConfigError(document.errors.map(({ pos, message }) => ({ file: path, line: lineAt(pos[0]), message })));
  }
  try {
    return { content: document.toJS() ?? {}, lineOf: keys => lineAt(offsetOf(document, keys)) };
  } catch (cause) {
    // The library only detects an alias without its anchor, or too many aliases, here.
    if (cause instanceof ReferenceError) throw new ConfigError([{ file: path, message: cause.message }]);
    throw cause;
  }
}

function offsetOf(document: Document.Parsed, path: readonly PropertyKey[]): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range[0] ?? 0;
  for (const key of path) {
    const collection = isAlias(node) ? node.resolve(document) : node;
    const found = isMap(collection)
      ? findPair(collection.items, key)
      : isSeq(collection)
        ? findItem(collection.items, key)
        : undefined;
    if (!found) return offset;
    offset = found.offset ?? offset;
    node = found.value;
  }
  return offset;
}

interface Found {
  readonly offset: number | undefined;
  readonly value: unknown;
}

function findPair(
  pairs: readonly { readonly key: unknown; readonly value: unknown }[],
  key: PropertyKey,
): Found | undefined {
  const pair = pairs.find(each => isScalar(each.key) && String(each.key.value) === String(key));
  return pair && { offset: startOf(pair.key), value: pair.value };
}

function findItem(items: readonly unknown[], key: PropertyKey): Found | undefined {
  const value = items[Number(key)];
  return value === undefined ? undefined : { offset: startOf(value), value };
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined;
}
