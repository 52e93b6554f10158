// The rooms of src/ and who may import whom: docs/architecture.md as a test. Types count too.
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  oci: [],
  content: ['oci'],
  state: [],
  upstream: ['oci'],
  augment: ['oci'],
  cache: ['oci', 'content'],
  hosted: ['oci', 'content', 'state'],
  build: ['oci', 'content', 'state', 'augment'],
  rules: ['oci', 'content', 'state', 'augment', 'build'],
  tokens: ['oci', 'state', 'augment', 'build'],
  access: ['oci', 'state'],
  events: ['oci', 'state'],
  proxy: ['oci', 'content', 'state', 'upstream', 'augment', 'hosted', 'build', 'rules'],
  http: ['proxy', 'tokens', 'augment', 'hosted', 'cache', 'build', 'rules', 'access', 'events', 'oci'],
  cli: ['access', 'hosted', 'cache', 'build', 'rules', 'state', 'config', 'oci'],
  config: ['oci'],
  app: [
    'oci',
    'content',
    'state',
    'upstream',
    'hosted',
    'cache',
    'build',
    'rules',
    'access',
    'events',
    'tokens',
    'proxy',
    'http',
    'config',
  ],
  main: ['app', 'http', 'cli', 'access', 'state', 'config'],
};

const ONLY_IN: Readonly<Record<string, readonly string[]>> = {
  hono: ['http', 'app'],
  '@hono/node-server': ['main', 'http'],
  undici: ['upstream', 'events'],
  jose: ['access'],
  bcryptjs: ['access'],
  commander: ['cli', 'main'],
  'node:sqlite': ['state'],
  'node:child_process': ['build', 'upstream'],
  'tar-stream': ['build'],
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

function roomOf(file: string): string {
  return (file.split('/')[1] ?? '').replace(/\.ts$/, '');
}
