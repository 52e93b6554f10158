// The rooms of src/ and who may import whom: docs/architecture.md as a test. Types count too.
import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { measure } from './shape/figures.ts';
import { findCycles, readSources, roomOf } from './shape/sources.ts';

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  memory: [],
  oci: [],
  content: ['oci', 'memory'],
  state: ['memory'],
  upstream: ['oci', 'content', 'memory'],
  augment: ['oci'],
  observe: ['oci'],
  cache: ['oci', 'content', 'state', 'upstream', 'memory'],
  hosted: ['oci', 'content', 'state', 'memory'],
  builds: ['oci', 'content', 'state', 'augment'],
  scans: ['oci', 'state', 'builds'],
  rules: ['oci', 'content', 'state', 'augment', 'builds', 'memory'],
  access: ['oci', 'state', 'memory'],
  events: ['oci', 'state'],
  pull: ['oci', 'content', 'state', 'upstream', 'augment', 'cache', 'hosted', 'builds', 'rules', 'scans', 'memory'],
  copy: ['oci', 'upstream', 'augment', 'cache', 'hosted', 'builds', 'pull'],
  submit: ['pull', 'augment', 'builds', 'scans', 'rules', 'access', 'oci'],
  http: [
    'submit',
    'pull',
    'augment',
    'content',
    'hosted',
    'cache',
    'builds',
    'scans',
    'rules',
    'access',
    'events',
    'observe',
    'oci',
  ],
  cli: ['access', 'hosted', 'cache', 'builds', 'rules', 'state', 'config', 'oci'],
  config: ['oci'],
  app: [
    'oci',
    'content',
    'state',
    'upstream',
    'hosted',
    'cache',
    'builds',
    'scans',
    'rules',
    'access',
    'events',
    'pull',
    'copy',
    'submit',
    'http',
    'config',
    'memory',
    'observe',
  ],
  commands: ['app', 'cli', 'config'],
  program: ['commands', 'app', 'http', 'cli', 'access', 'state', 'config'],
  main: ['program'],
};

const ONLY_IN: Readonly<Record<string, readonly string[]>> = {
  hono: ['http', 'app'],
  '@hono/node-server': ['program', 'http'],
  undici: ['upstream', 'events', 'main'],
  '@kubernetes/client-node': ['builds'],
  'prom-client': ['observe'],
  '@opentelemetry': ['observe'],
  jose: ['access'],
  bcryptjs: ['access'],
  commander: ['cli', 'commands'],
  'node:sqlite': ['state'],
  'node:child_process': ['builds', 'upstream'],
  'tar-stream': ['builds'],
  '@aws-sdk': ['content'],
  '@smithy': ['content'],
  'cli-progress': ['cli'],
  'eventsource-parser': ['cli'],
  'rate-limiter-flexible': ['access'],
};

const sources = readSources('src/**/*.ts');
const imports = sources.flatMap(({ path, imports }) => imports.map(each => ({ path, ...each })));

test('rooms import only the rooms that they may', () => {
  const wrong = imports.filter(({ path, target, isPackage }) => {
    const [from, to] = [roomOf(path), roomOf(target)];
    return !isPackage && to !== from && !MAY_IMPORT[from]?.includes(to);
  });
  expect(wrong.map(({ path, target }) => `${path} imports ${target}`)).toEqual([]);
});

test('packages stay in their rooms', () => {
  const wrong = imports.filter(({ path, target, isPackage }) => {
    const rooms = Object.entries(ONLY_IN).find(([name]) => target === name || target.startsWith(`${name}/`))?.[1];
    return isPackage && rooms && !rooms.includes(roomOf(path));
  });
  expect(wrong.map(({ path, target }) => `${path} uses ${target}`)).toEqual([]);
});

test('what few need is loaded when it is needed', () => {
  const early =
    /^import (?!type )[^;]* from '(?:@(?:aws-sdk|smithy)\/|(?:pg|cli-progress|pino-pretty|tldts|\.\/commands\.ts)')/m;
  expect(globSync('src/**/*.ts').filter(path => early.test(readFileSync(path, 'utf8')))).toEqual([]);
});

test('no file imports itself by way of others, types included', () => {
  expect(findCycles(sources)).toEqual([]);
});

test('exports are imported by another file, be it a test', () => {
  expect(measure(sources, readSources('test/**/*.ts')).exports.unused).toEqual([]);
});

test('files are neither crumbs nor heaps: docs/architecture.md, "Shape"', () => {
  const { files, median, p95, smallShare } = measure(sources, []);
  expect(files).toBeLessThanOrEqual(453);
  expect(median).toBeGreaterThanOrEqual(80);
  expect(median).toBeLessThanOrEqual(140);
  expect(p95).toBeLessThan(300);
  expect(smallShare).toBeLessThan(12);
});
