// The rooms of src/ and who may import whom: docs/architecture.md as a test. Types count too.
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  memory: [],
  oci: [],
  content: ['oci', 'memory'],
  state: ['memory'],
  upstream: ['oci', 'memory'],
  augment: ['oci'],
  cache: ['oci', 'content', 'state', 'upstream', 'memory'],
  hosted: ['oci', 'content', 'state', 'memory'],
  builds: ['oci', 'content', 'state', 'augment'],
  rules: ['oci', 'content', 'state', 'augment', 'builds', 'memory'],
  access: ['oci', 'state', 'memory'],
  events: ['oci', 'state'],
  pull: ['oci', 'content', 'state', 'upstream', 'augment', 'cache', 'hosted', 'builds', 'rules', 'memory'],
  copy: ['oci', 'upstream', 'augment', 'cache', 'hosted', 'builds', 'pull'],
  http: ['pull', 'copy', 'augment', 'hosted', 'cache', 'builds', 'rules', 'access', 'events', 'oci'],
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
    'rules',
    'access',
    'events',
    'pull',
    'copy',
    'http',
    'config',
    'memory',
  ],
  program: ['app', 'http', 'cli', 'access', 'state', 'config'],
  main: ['program'],
};

const ONLY_IN: Readonly<Record<string, readonly string[]>> = {
  hono: ['http', 'app'],
  '@hono/node-server': ['program', 'http'],
  undici: ['upstream', 'events'],
  '@kubernetes/client-node': ['builds'],
  jose: ['access'],
  bcryptjs: ['access'],
  commander: ['cli', 'program'],
  'node:sqlite': ['state'],
  'node:child_process': ['builds', 'upstream'],
  'tar-stream': ['builds'],
  'cli-progress': ['cli'],
  'eventsource-parser': ['cli'],
  'rate-limiter-flexible': ['http'],
};

const imports = globSync('src/**/*.ts').flatMap(file =>
  [...readFileSync(file, 'utf8').matchAll(/(?:from|import) '([^']+)'/g)].map(([, target = '']) => ({ file, target })),
);

test.each(imports.filter(({ target }) => target.startsWith('.')))('$file may import $target', ({ file, target }) => {
  const from = roomOf(file);
  const to = roomOf(normalize(join(dirname(file), target)));
  expect([from, ...(MAY_IMPORT[from] ?? [])]).toContain(to);
});

test.each(imports.filter(({ target }) => !target.startsWith('.')))('$file may use $target', ({ file, target }) => {
  const rooms = Object.entries(ONLY_IN).find(([name]) => target === name || target.startsWith(`${name}/`))?.[1];
  expect(rooms ?? [roomOf(file)]).toContain(roomOf(file));
});

test('no file imports itself by way of others, types included', () => {
  expect(findCycles()).toEqual([]);
});

/** Each group of files that all reach one another. Tarjan's algorithm, since a group has cycles without number. */
function findCycles(): readonly (readonly string[])[] {
  const targets = Map.groupBy(
    imports.filter(({ target }) => target.startsWith('.')),
    ({ file }) => file,
  );
  const order = new Map<string, { index: number; low: number; isOpen: boolean }>();
  const open: string[] = [];
  const cycles: string[][] = [];

  function visit(file: string) {
    const place = { index: order.size, low: order.size, isOpen: true };
    order.set(file, place);
    open.push(file);
    for (const { target } of targets.get(file) ?? []) {
      const next = normalize(join(dirname(file), target));
      if (next === file) cycles.push([file]);
      const known = order.get(next);
      if (!known) place.low = Math.min(place.low, visit(next).low);
      else if (known.isOpen) place.low = Math.min(place.low, known.index);
    }
    if (place.low < place.index) return place;
    const group = open.splice(open.indexOf(file));
    for (const each of group) Object.assign(order.get(each) ?? {}, { isOpen: false });
    if (group.length > 1) cycles.push(group.toSorted());
    return place;
  }

  for (const file of targets.keys()) if (!order.has(file)) visit(file);
  return cycles;
}

function roomOf(file: string): string {
  return (file.split('/')[1] ?? '').replace(/\.ts$/, '');
}
