// docs/configuration.md says what the schema says: every key, no other, and the same defaults.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { configSchema } from '../../src/config/schema.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../../docs/configuration.md'), 'utf8');

/** The tables of keys, by the head of their first column, and where their keys are. */
const TABLES: Readonly<Record<string, string>> = {
  key: '',
  'key of an entry': 'upstreams.*.',
  'key of `events.endpoints[]`': 'events.endpoints[].',
};

const nodeSchema = z.looseObject({
  properties: z.record(z.string(), z.unknown()).default({}),
  items: z.unknown().optional(),
  additionalProperties: z.unknown().optional(),
  /** A value that may have one of several shapes. */
  anyOf: z.array(z.unknown()).default([]),
  /** The same, where one of its keys says which. */
  oneOf: z.array(z.unknown()).default([]),
});

/** The path of each key that has no keys of its own; `[]` stands for an item of a list, `*` for any name. */
function keysOf(value: unknown, path = ''): readonly string[] {
  const node = nodeSchema.safeParse(value);
  if (!node.success) return [path];
  const { properties, items, additionalProperties, anyOf, oneOf } = node.data;
  const inner = [
    ...Object.entries(properties).map(([key, each]) => ({ each, at: path ? `${path}.${key}` : key })),
    { each: items, at: `${path}[]` },
    { each: additionalProperties, at: `${path}.*` },
    ...anyOf
      .filter(each => hasKeys(each) || nodeSchema.safeParse(each).data?.oneOf.length)
      .map(each => ({ each, at: path })),
    ...oneOf.map(each => ({ each, at: path })),
  ].filter(({ each }) => typeof each === 'object');
  const keys = inner.length === 0 ? [path] : inner.flatMap(({ each, at }) => keysOf(each, at));
  return [...new Set(keys)];
}

/** A secret may be a mapping too, whose keys are documented once for all. */
function hasKeys(shape: unknown): boolean {
  const { properties = {} } = nodeSchema.safeParse(shape).data ?? {};
  return Object.keys(properties).some(key => key !== 'env' && key !== 'file');
}

interface Documented {
  readonly key: string;
  readonly consequence: string;
}

/** The rows of all tables of keys; a key that begins with a dot is beside the one before it. */
function documented(): readonly Documented[] {
  let prefix: string | undefined;
  return PAGE.split('\n').flatMap(line => {
    const [, head = '', , consequence = ''] = line.split('|').map(cell => cell.trim());
    if (!line.startsWith('|')) prefix = undefined;
    else if (head in TABLES) prefix = TABLES[head];
    else if (prefix !== undefined && !head.startsWith('-')) return namesIn(head, prefix, consequence);
    return [];
  });
}

function namesIn(head: string, prefix: string, consequence: string): readonly Documented[] {
  const names = [...head.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name);
  const first = names[0] ?? '';
  return names.map(name => ({
    key: `${prefix}${name.startsWith('.') ? first.replace(/\.[^.]+$/, name) : name}`,
    consequence,
  }));
}

/** Whether `outer` is `key`, or has it among its keys. */
function holds(outer: string, key: string): boolean {
  return key.startsWith(outer) && /^(?:$|[.[])/.test(key.slice(outer.length));
}

const keys = keysOf(z.toJSONSchema(configSchema({}), { io: 'input', unrepresentable: 'any' }));

test('every key is documented, in a row of its own or by name in the row of what it is a part of', () => {
  const rows = documented();
  const isNamed = (key: string) => {
    const name = /(\w+)(?:\[\]|\.\*)*$/.exec(key)?.[1] ?? '';
    return rows.some(
      row =>
        holds(row.key, key) &&
        (/^(?:\[\]|\.\*)*$/.test(key.slice(row.key.length)) || row.consequence.includes(`\`${name}\``)),
    );
  };
  expect(keys.length).toBeGreaterThan(50);
  expect(keys.filter(key => !isNamed(key))).toEqual([]);
});

test('every documented key is there', () => {
  const unknown = documented().filter(({ key }) => !keys.some(each => holds(key, each)));
  expect(unknown.map(({ key }) => key)).toEqual([]);
});

/** Keys whose absence means something, and those of `access`, `state`, `content` and `wave`, which are absent as a whole. */
const HAS_NO_DEFAULT =
  /^(?:publicUrl|tls\..*|log\.format|access\..*|wave\..*|state\..*|content\..*|builds\.(?:cacheRepository|registryHost|sif\.(?:converter|command))|scans\.(?:scanner|command|sbom))$/;

function leavesOf(value: unknown, path = ''): readonly string[] {
  const isMapping = typeof value === 'object' && value !== null && !Array.isArray(value);
  const entries = isMapping ? Object.entries(value) : [];
  if (entries.length === 0) return [path];
  return entries.flatMap(([key, inner]) => leavesOf(inner, path ? `${path}.${key}` : key));
}

test('the list of all defaults has every key with a default, and means what an empty file does', () => {
  const [, yaml = ''] = /## All defaults\s+```yaml\n([^`]+)```/.exec(PAGE) ?? [];
  const listed = parse(yaml);
  const single = new Set(keys.map(key => key.replace(/(?:\[\]|\.\*).*/, '')));
  expect([...leavesOf(listed)].sort()).toEqual([...single].filter(key => !HAS_NO_DEFAULT.test(key)).sort());
  expect(configSchema({}).parse(listed)).toEqual(configSchema({}).parse({}));
});
