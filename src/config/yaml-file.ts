// The configuration file: its YAML, and the line of each key.
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { ConfigError } from './faults.ts';

interface YamlFile {
  readonly content: unknown;
  /** The line of a key, or of the nearest one above it that is there; from 1. */
  lineOf(path: readonly PropertyKey[]): number;
}

/** As much as a ConfigMap holds. While a file is parsed, nobody is served. */
const MAX_CHARACTERS = 1024 * 1024;

/** `path` is for messages. Throws ConfigError for what is no YAML, each fault with its line. */
export function parseYaml(text: string, path: string): YamlFile {
  if (text.length > MAX_CHARACTERS) throw new ConfigError([`${path}: more than ${MAX_CHARACTERS} characters`]);
  const lineCounter = new LineCounter();
  const lineAt = (offset: number) => lineCounter.linePos(offset).line;
  // Pretty errors quote the line, which may hold a password.
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  if (document.errors.length > 0) {
    throw new ConfigError(document.errors.map(({ pos, message }) => `${path}:${lineAt(pos[0])}: ${message}`));
  }
  try {
    return { content: document.toJS() ?? {}, lineOf: keys => lineAt(offsetOf(document, keys)) };
  } catch (cause) {
    // An alias without its anchor, or too many of them: the library finds out only here.
    if (cause instanceof ReferenceError) throw new ConfigError([`${path}: ${cause.message}`]);
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
